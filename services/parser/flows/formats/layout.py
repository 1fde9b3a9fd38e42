"""Definition of a tuple format: the kind of each field, and how coded fields become flow columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import pyarrow as pa

MANDATORY_FIELDS: Final = 8
"""Fields after these may be omitted from the right."""

PROTOCOL_LETTERS: Final = {"T": 6, "U": 17}
DIRECTIONS: Final = {"I": "inbound", "O": "outbound"}


class FieldKind(Enum):
    """Kind of value of a field."""

    TIME = auto()  # seconds or milliseconds since 1970
    ADDRESS = auto()  # IPv4, IPv6
    PORT = auto()  # 0 to 65535
    PROTOCOL = auto()  # IANA number 0 to 255
    PROTOCOL_LETTER = auto()  # T, U, or a number
    WORD = auto()  # any text
    COUNTER = auto()  # 0 to 2**63 - 1, or empty


Columns = Mapping[str, pa.Array]


@dataclass(frozen=True, slots=True, eq=False)
class TupleLayout:
    """A tuple format; there is one instance of each.

    Attributes:
        name: for messages.
        fields: name and kind of each column, in order.
        coded: derives ``direction``, ``action``, ``state`` and ``encryption`` from the word fields.
    """

    name: str
    fields: tuple[tuple[str, FieldKind], ...]
    coded: Callable[[Columns], dict[str, pa.Array]]

    def of_kind(self, *kinds: FieldKind) -> list[str]:
        """Return the names of the fields of these kinds, in order."""
        return [name for name, kind in self.fields if kind in kinds]


ENDPOINTS: Final = (
    ("time", FieldKind.TIME),
    ("src_ip", FieldKind.ADDRESS),
    ("dst_ip", FieldKind.ADDRESS),
    ("src_port", FieldKind.PORT),
    ("dst_port", FieldKind.PORT),
)
COUNTERS: Final = tuple(
    (name, FieldKind.COUNTER) for name in ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
)
