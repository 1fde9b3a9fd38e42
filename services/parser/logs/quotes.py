"""Find the quotes that begin and end strings. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Bytes

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")


def quotes_in(content: Bytes) -> tuple[Rows, Rows]:
    """Return the positions of the quotes that no backslash escapes, and those of all backslashes."""
    is_quote = content == _QUOTE
    backslashes = np.flatnonzero(content == _BACKSLASH)
    if len(backslashes):
        escaped = _escaped(backslashes)
        is_quote[escaped[escaped < len(content)]] = False
    return np.flatnonzero(is_quote), backslashes


def _escaped(backslashes: Rows) -> Rows:
    """Return the positions of escaped characters: in a run of backslashes, every second one is itself escaped."""
    begins = np.diff(backslashes, prepend=-2) != 1
    if begins.all():
        return backslashes + 1
    first = backslashes[begins][np.cumsum(begins) - 1]
    escapes: Rows = backslashes[(backslashes - first) & 1 == 0]
    return escapes + 1
