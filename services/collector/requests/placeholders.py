"""Fill the `{placeholders}` of a path. Neither the path nor a value can leave the segments that the path shows.

What is in a message is not trusted. A path consists of segments of plain characters; a value is one segment or part of one.
Slashes, backslashes and percent signs in a value are refused rather than escaped, because servers differ in how often they
decode them, and no resource has them in its name. Everything else that is not plain is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from libs.common.suggestions import did_you_mean
from services.collector.requests.schema import RequestRefused

LONGEST_PATH: Final = 4_000
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,63})\}")
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9._~$&'()+,;=:@!*-]+)+")
_NOT_IN_VALUES: Final = re.compile(r"[/\\%\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DOTS: Final = re.compile(r"\.+")


def filled(path: str, values: Mapping[str, str | int]) -> str:
    """Return `path` with its placeholders replaced by escaped values.

    Raises:
        RequestRefused: if the path has other characters than those of plain segments, or a value is missing, unused, or would
            change the structure of the path.
    """
    names = _PLACEHOLDER.findall(path)
    _check_path(path)
    _check_names(names, values)
    full = _PLACEHOLDER.sub(lambda found: _escaped(found[1], values[found[1]]), path)
    if any(_DOTS.fullmatch(segment) for segment in full.split("/")):
        raise RequestRefused("resource_path: a segment consists of dots only; give the name of a resource")
    if len(full) > LONGEST_PATH:
        raise RequestRefused(f"resource_path: longer than {LONGEST_PATH} characters when it is filled")
    return full


def placeholders(path: str) -> tuple[str, ...]:
    """Return the names of the placeholders in `path`, in order, each once."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(path)))


def _check_path(path: str) -> None:
    if not _PLAIN.fullmatch(_PLACEHOLDER.sub("x", path)):
        raise RequestRefused(
            "resource_path: must be segments like /subscriptions/{subscriptionId}/providers, without host, query, fragment, "
            "percent signs or empty segments; give other text as parameters, which are escaped, and a query as query_params"
        )


def _check_names(names: list[str], values: Mapping[str, str | int]) -> None:
    for name in names:
        if name not in values:
            raise RequestRefused(f"parameters: no value for {{{name}}}{did_you_mean(name, values)}")
    for name in values:
        if name not in names:
            raise RequestRefused(f"parameters: {name} is no placeholder of resource_path{did_you_mean(name, names)}")


def _escaped(name: str, value: str | int) -> str:
    text = str(value)
    if not text:
        raise RequestRefused(f"parameters.{name}: is empty")
    if _NOT_IN_VALUES.search(text):
        raise RequestRefused(
            f"parameters.{name}: must not contain a slash, a backslash, a percent sign or a control character; "
            "write the segments of a longer path in resource_path"
        )
    return quote(text, safe="")
