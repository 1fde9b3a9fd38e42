"""Rewrite lines of logfmt, ``level=info msg="order placed" order=4711``, as objects of JSON. Pure: by columns.

A line is logfmt if it consists of two or more pairs with a blank between them. Values with blanks or quotes stand in quotes, in
which escapes are those of JSON.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from services.parser.logs.extract import flags
from services.parser.logs.lines import Flags

_NAME: Final = r"[A-Za-z_@][A-Za-z0-9_.@/-]*"
_INSIDE: Final = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*'
_BARE: Final = r'[^" \\\x00-\x1f]*'
_PAIR: Final = rf'{_NAME}=(?:"{_INSIDE}"|{_BARE})'
_LINE: Final = rf"^{_PAIR}(?: {_PAIR})+ *$"
_PARTS: Final = rf'({_NAME})=(?:"({_INSIDE})"|({_BARE}))(?: |$)'
_MEMBER: Final = r'"\1":"\2\3",'


def is_logfmt(lines: pa.StringArray) -> Flags:
    """Return which lines are logfmt."""
    return flags(pc.match_substring_regex(lines, _LINE))


def as_json(lines: pa.StringArray) -> pa.StringArray:
    """Return lines of logfmt as objects. The result is no JSON if a value has half a surrogate pair as an escape."""
    members = pc.replace_substring_regex(pc.utf8_rtrim(lines, " "), _PARTS, _MEMBER)
    return pc.binary_join_element_wise("{", pc.utf8_rtrim(members, ","), "}", "")
