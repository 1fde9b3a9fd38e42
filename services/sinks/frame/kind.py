"""The kinds of destinations, which are discovered: adding one does not require editing a table.

Ours are the packages in `services.sinks.kinds`; others come from installed distributions through the entry-point group
``blobtide.sinks``. Either way, a name resolves to a `Kind`, and looking up kinds imports no drivers.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from libs.common.errors import ConfigError

GROUP: Final = "blobtide.sinks"
_OURS: Final = "services.sinks.kinds"


class Promise(StrEnum):
    """What a destination gets when something fails."""

    EFFECTIVELY_ONCE = "effectively once"
    AT_LEAST_ONCE = "at least once"
    TO_WHO_IS_THERE = "at least once to who is there"  # nobody acknowledges: what is on its way when somebody ends is lost


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of destination: where its code is, and what `blobtide sinks` says about it.

    Attributes:
        description: a phrase that says what it writes.
        sink: its class, as ``module:Class``.
        settings: the class of its settings, as ``module:Class``.
        promises: the promises that its sinks can make, depending on their settings.
        extra: the extra of our distribution that installs its library; None if it needs none.
        library: a module from the extra, which shows whether the extra is installed.
        example: settings of a sink of this kind that would run where its destination is, as YAML; empty if it needs none.
    """

    description: str
    sink: str
    settings: str
    promises: tuple[Promise, ...] = (Promise.AT_LEAST_ONCE,)
    extra: str | None = None
    library: str | None = None
    example: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its library is installed."""
        return self.library is None or _is_found(self.library)

    def example_lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a settings file with one sink of this kind, called `name`."""
        own = self.example.strip().splitlines()
        yield "sinks:"
        yield f"  {name}:" if own else f"  {name}: {{}}"
        yield from (f"    {line}".rstrip() for line in own)

    def load(self, place: str) -> Any:
        """Return the object at `place` (``module:Class``).

        Raises:
            ConfigError: if the library is not installed; the message names the extra that installs it.
        """
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if self.extra is None or (error.name or "").startswith(("services.", "libs.")):
                raise
            raise ConfigError(f"needs {error.name}: pip install 'blobtide[{self.extra}]'") from error


def _is_found(module: str) -> bool:
    """Return whether a module could be imported, whose packages may be missing as well."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, in order."""
    return tuple(sorted(_finders()))


def find_kind(name: str) -> Kind | None:
    """Return the kind of that name, or None.

    Raises:
        ConfigError: if another distribution has a kind with the name of one of ours, or provides something that is not a kind
            or cannot be imported.
    """
    finder = _finders().get(name)
    return None if finder is None else finder()


def all_kinds() -> Mapping[str, Kind]:
    """Return every kind by name, in order. Raises as `find_kind` does."""
    return {name: kind for name in kind_names() if (kind := find_kind(name)) is not None}


def _finders() -> dict[str, partial[Kind]]:
    """Return how to load each kind; nothing is imported yet."""
    ours = pkgutil.iter_modules(importlib.import_module(_OURS).__path__)
    finders = {found.name: partial(_own, found.name) for found in ours if found.ispkg}
    for point in entry_points(group=GROUP):
        if point.name in finders:
            owner = point.dist.name if point.dist is not None else "another distribution"
            finders[point.name] = partial(_refuse, f"{owner} provides a sink {point.name}, which already exists: uninstall it")
        else:
            finders[point.name] = partial(_foreign, point)
    return finders


def _own(name: str) -> Kind:
    return _checked(name, importlib.import_module(f"{_OURS}.{name}").KIND)


def _foreign(point: EntryPoint) -> Kind:
    try:
        return _checked(point.name, point.load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the sink {point.name} cannot be loaded: {error}; update or uninstall its distribution") from error


def _checked(name: str, kind: object) -> Kind:
    if not isinstance(kind, Kind):
        raise ConfigError(f"the sink {name} has no Kind at its entry point: it is for another version of blobtide")
    return kind


def _refuse(reason: str) -> Kind:
    raise ConfigError(reason)
