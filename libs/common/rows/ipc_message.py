"""Read the metadata of an Arrow IPC message from its flatbuffer, since pyarrow shows it only after unpacking. Pure."""

from __future__ import annotations

import struct
from typing import Final

# Field numbers within their tables, and message types: see Arrow's format/Message.fbs.
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DATA: Final = 1  # in a dictionary batch: the record batch in it
_COMPRESSION: Final = 3  # in a record batch

_U16, _U32, _I32 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i")


def is_compressed(metadata: memoryview) -> bool:
    """Return whether the buffers of a message are compressed.

    Raises:
        struct.error, IndexError: if the metadata is truncated.
    """
    message = _U32.unpack_from(metadata, 0)[0]
    kind = _field(metadata, message, _HEADER_TYPE)
    header = _table(metadata, message, _HEADER)
    if kind is None or header is None:
        return False
    if metadata[kind] == _DICTIONARY_BATCH:
        header = _table(metadata, header, _DATA)
    elif metadata[kind] != _RECORD_BATCH:
        return False
    return header is not None and _field(metadata, header, _COMPRESSION) is not None


def _field(metadata: memoryview, table: int, number: int) -> int | None:
    """Return the position of a field of a table; None if it is absent."""
    fields = table - _I32.unpack_from(metadata, table)[0]
    place = 4 + 2 * number
    if place >= _U16.unpack_from(metadata, fields)[0]:
        return None
    offset: int = _U16.unpack_from(metadata, fields + place)[0]
    return table + offset if offset else None


def _table(metadata: memoryview, table: int, number: int) -> int | None:
    place = _field(metadata, table, number)
    return None if place is None else place + int(_U32.unpack_from(metadata, place)[0])
