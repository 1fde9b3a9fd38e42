"""The configured sources as values: territories, the scopes in them, and the stream of each blob name.

A *scope* is the unit of work that one monitor owns at a time: in the hourly layout one resource directory (the part of the
name directly above ``y=YYYY``), otherwise the configured prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import Stream
from libs.common.settings.storage import Environment, NameLayout, Source, Subscriptions, account_alias
from services.blob_monitor.globs import compile_globs

_YEAR = re.compile(r"(?:^|/)(?=y=\d{4}/)")
_YEAR_HERE = re.compile(r"y=\d{4}/")


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects the names that belong to a stream."""

    stream: Stream
    include: re.Pattern[str] | None
    exclude: re.Pattern[str] | None

    def accepts(self, name: str) -> bool:
        """Return whether `name` is included and not excluded."""
        if self.include is not None and self.include.fullmatch(name) is None:
            return False
        return self.exclude is None or self.exclude.fullmatch(name) is None


@dataclass(frozen=True)
class Territory:
    """A prefix of one container. The sources that share it are distinguished by their globs; the first to accept wins."""

    subscription: str
    environment: str
    container: str
    prefix: str
    layout: NameLayout
    selectors: tuple[Selector, ...]

    @cached_property
    def alias(self) -> str:
        """Alias of the storage account."""
        return account_alias(self.subscription, self.environment)

    @cached_property
    def key(self) -> str:
        """Key of the territory, in the form of scope keys."""
        return f"{self.alias}/{self.container}/{self.prefix}"

    def stream_of(self, name: str) -> Stream | None:
        """Return the stream of a blob; None if no source accepts it."""
        return next((selector.stream for selector in self.selectors if selector.accepts(name)), None)

    def scope_prefix(self, name: str) -> str | None:
        """Return the prefix of the scope that contains a blob's name; None if it is outside."""
        if not name.startswith(self.prefix):
            return None
        if self.layout is not NameLayout.HOURLY:
            return self.prefix
        year = _YEAR.search(name, max(len(self.prefix) - 1, 0))
        return name[: year.end()] if year else None


@dataclass(frozen=True)
class Scope:
    """A prefix in a territory that is listed as a unit."""

    territory: Territory
    prefix: str

    @cached_property
    def key(self) -> str:
        """``alias/container/prefix``; its partition determines which monitor owns the scope."""
        return f"{self.territory.alias}/{self.territory.container}/{self.prefix}"

    def holds(self, name: str) -> bool:
        """Return whether a listed blob belongs to this scope, and not to one inside it."""
        if self.territory.layout is not NameLayout.HOURLY:
            return name.startswith(self.prefix)
        return name.startswith(self.prefix) and _YEAR_HERE.match(name, len(self.prefix)) is not None

    def blob(self, name: str) -> BlobId:
        """Return the id of a blob in this scope."""
        return BlobId(self.territory.alias, self.territory.container, name)


class Atlas:
    """Finds the scope of any blob. Territories do not overlap. Used from one thread."""

    def __init__(self, territories: Iterable[Territory]) -> None:
        self._by_container: dict[str, list[Territory]] = {}  # by alias/container
        for territory in territories:
            self._by_container.setdefault(f"{territory.alias}/{territory.container}", []).append(territory)
        self._scopes: dict[str, Scope] = {}

    def find(self, key: str) -> tuple[Scope, str] | None:
        """Return scope and name of the blob with the id `key`; None if the configuration does not, or no longer, cover it."""
        slash = key.find("/", key.find("/") + 1)
        name = key[slash + 1 :]
        for territory in self._by_container.get(key[:slash], ()) if name else ():
            prefix = territory.scope_prefix(name)
            if prefix is not None:
                scope_key = key[: slash + 1] + prefix
                scope = self._scopes.get(scope_key)
                if scope is None:
                    scope = self._scopes[scope_key] = Scope(territory, prefix)
                return scope, name
        return None


def territories(subscriptions: Subscriptions) -> tuple[Territory, ...]:
    """Return the territories of all enabled environments.

    Raises:
        ConfigError: a glob is malformed, or prefixes of one container overlap.
    """
    return tuple(
        territory
        for subscription, settings in subscriptions.items()
        for environment, details in settings.environments.items()
        if details.enabled
        for territory in _of_environment(subscription, environment, details)
    )


def _of_environment(subscription: str, environment: str, details: Environment) -> Iterator[Territory]:
    ordered = sorted(details.sources, key=lambda source: (source.container, source.prefix))
    _refuse_overlaps(account_alias(subscription, environment), ordered)
    for (container, prefix), group in groupby(ordered, key=lambda source: (source.container, source.prefix)):
        sources = list(group)
        yield Territory(subscription, environment, container, prefix, sources[0].layout, tuple(map(_selector, sources)))


def _refuse_overlaps(alias: str, ordered: Sequence[Source]) -> None:
    for source in ordered:
        if source.layout is NameLayout.HOURLY and _YEAR.search(source.prefix):
            raise ConfigError(f"{alias}: prefix {source.prefix!r} extends into the hours; end it above y=, or use layout flat")
    for first, second in pairwise(ordered):
        if first.container != second.container or not second.prefix.startswith(first.prefix):
            continue
        if first.prefix != second.prefix:
            raise ConfigError(
                f"{alias}, container {first.container}: prefix {second.prefix!r} lies inside {first.prefix!r}; "
                "give both sources the shorter prefix and distinguish them by include and exclude"
            )
        if first.layout is not second.layout:
            raise ConfigError(
                f"{alias}, container {first.container}: sources with prefix {first.prefix!r} have different layouts"
            )


def _selector(source: Source) -> Selector:
    return Selector(
        source.stream,
        compile_globs(source.include) if source.include else None,
        compile_globs(source.exclude) if source.exclude else None,
    )
