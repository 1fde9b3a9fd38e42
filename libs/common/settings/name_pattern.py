"""Patterns that divide a blob's name into named parts, such as its pod and its container.

A pattern is the operator's, but names are whatever somebody wrote into a container, so matching must not take long on any of
them. Patterns are therefore in the syntax of RE2, which has no back-references and takes time proportional to the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from libs.common.linear_regex import linear_regex

_GROUP: Final = re.compile(r"\(\?P?<([^>]*)>")
_GROUP_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MOST_GROUPS: Final = 8
# Several times as fast without RE2, and linear too: only the container's name may contain the character that ends it.
_KUBERNETES: Final = r"\d{8}\.(?P<pod>[^_/]+)_(?P<namespace>[^_/]+)_(?P<container>[^/]+)-(?P<container_id>[0-9a-f]+)(?:\.\w+)*"


class NamePattern:
    """A pattern for whole names.

    Attributes:
        groups: the names of its groups, in their order.
    """

    def __init__(self, text: str, *, is_trusted: bool = False) -> None:
        """Compile `text`, with RE2 unless `is_trusted` to be linear.

        Raises:
            ValueError: it is no regular expression in the syntax of RE2, or its groups cannot be used.
        """
        self.groups = _groups(text)
        expression: Any = re.compile(text.encode()) if is_trusted else linear_regex(text)
        self._numbers = tuple((group, expression.groupindex[group]) for group in self.groups)
        self._match = expression.fullmatch

    def parts(self, name: str) -> Mapping[str, str] | None:
        """Return the texts of the groups that took part; None if `name` does not match."""
        found = self._match(name.encode(errors="replace"))
        if found is None:
            return None
        texts = found.groups()
        return {
            group: text.decode(errors="replace") for group, number in self._numbers if (text := texts[number - 1]) is not None
        }


def kubernetes_names(prefix: str) -> NamePattern:
    """Return the pattern of ``<prefix>YYYYMMDD.<pod>_<namespace>_<container>-<container id>.gz``."""
    return NamePattern(re.escape(prefix) + _KUBERNETES, is_trusted=True)


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(_GROUP.findall(text))
    if not groups:
        raise ValueError("it has no named group, such as (?P<pod>[^_]+)")
    if len(groups) > _MOST_GROUPS:
        raise ValueError(f"it has {len(groups)} named groups; at most {_MOST_GROUPS} are possible")
    for group in groups:
        if not _GROUP_NAME.fullmatch(group):
            raise ValueError(f"group {group!r}: use lower-case letters, digits and underscores, beginning with a letter")
        if groups.count(group) > 1:
            raise ValueError(f"group {group!r} occurs twice")
    return groups
