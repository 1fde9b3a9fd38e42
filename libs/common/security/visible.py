r"""What a terminal obeys, or what makes text look like other text, as escapes that can be read.

Names of blobs and rules, answers of servers and reasons come from outside. Escapes are those of JSON (``\u001b``): in a line of
JSON they change its look and not its meaning.
"""

from __future__ import annotations

import re
from typing import Final

# C0 but for the line feed, DEL and C1; marks of direction; separators of lines and paragraphs; halves of characters, which
# cannot be written at all.
OBEYED: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# The same for Arrow, whose text has no halves, and with the line feed.
OBEYED_RE2: Final = r"[\p{Cc}\x{061c}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}]"


def visible(text: str) -> str:
    """Return `text` so that it can be printed: lines stay lines."""
    return OBEYED.sub(_escape, text)


def visible_line(text: str) -> str:
    """Return `text` so that it can be printed as one line."""
    return visible(text).replace("\n", r"\u000a")


def _escape(found: re.Match[str]) -> str:
    return rf"\u{ord(found[0]):04x}"
