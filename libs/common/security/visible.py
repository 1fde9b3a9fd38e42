r"""Replace characters that terminals obey, or that make text look like other text, by readable escapes.

Names of blobs and rules, server responses and reasons come from outside. The escapes are those of JSON (``\u001b``), so that in
JSON they change the look of a line but not its meaning.
"""

from __future__ import annotations

import re
from typing import Final

# C0 except the line feed, DEL and C1; direction marks; line and paragraph separators; lone surrogates, which cannot be written
# at all.
OBEYED: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# The same for Arrow, whose text has no surrogates; includes the line feed.
OBEYED_RE2: Final = r"[\p{Cc}\x{061c}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}]"


def visible(text: str) -> str:
    """Return `text` in a printable form that keeps line breaks."""
    return OBEYED.sub(_escape, text)


def visible_line(text: str) -> str:
    """Return `text` in a form that can be printed as one line."""
    return visible(text).replace("\n", r"\u000a")


def _escape(found: re.Match[str]) -> str:
    return rf"\u{ord(found[0]):04x}"
