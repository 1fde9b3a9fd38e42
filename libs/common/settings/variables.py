"""Settings from ``BLOBTIDE_...`` variables, in upper or lower case; unknown ones are refused."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic_settings import EnvSettingsSource

from libs.common.errors import ConfigError

PREFIX: Final = "BLOBTIDE_"
CONFIG_VARIABLE: Final = "BLOBTIDE_CONFIG"
# Variables with our prefix that are not settings.
_OTHER_VARIABLES: Final = frozenset({CONFIG_VARIABLE, "BLOBTIDE_HOME", "BLOBTIDE_CRASH_POINT"})


class Variables(EnvSettingsSource):
    """Variables as values. Lists and maps are JSON, also in sink options, whose types only the sinks know."""

    def __call__(self) -> dict[str, Any]:
        """Return the values, keyed by group."""
        values = super().__call__()
        return values | {"sinks": _decoded(values["sinks"])} if "sinks" in values else values


def refuse_unknown_variables(environ: Mapping[str, str], groups: Iterable[str]) -> None:
    """Raise ConfigError for the first variable with our prefix that names none of the `groups`."""
    known = [f"{PREFIX}{name.upper()}" for name in groups]
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        group = variable.upper().split("__", 1)[0]
        if group not in known:
            close = difflib.get_close_matches(group, known, 1)
            hint = f"; did you mean {close[0]}...?" if close else f"; the groups are {', '.join(known)}"
            raise ConfigError(f"unknown variable {variable}{hint}")


def _decoded(value: Any) -> Any:
    """Decode JSON lists and maps; leave other text as it is, such as a file name that begins with a brace."""
    if isinstance(value, dict):
        return {name: _decoded(inner) for name, inner in value.items()}
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
