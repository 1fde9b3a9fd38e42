"""A batch of rows as bytes: an Arrow IPC stream of a schema and one record batch, so that a reader needs nothing else.

Its buffers are not compressed, and a reader refuses compressed ones before unpacking: a few kilobytes could become gigabytes.
"""

from __future__ import annotations

import struct
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import CodecError
from libs.common.messages.headers import Headers
from libs.common.rows.ipc_message import is_compressed
from libs.common.rows.row_type import NAME_KEY, VERSION_KEY, RowType

TYPE_HEADER: Final = "row-batch"
"""The header ``type`` of messages whose value is such a batch."""

# The schema, one message per dictionary, the batch's own message, and padding to eight bytes per buffer.
_MOST_FRAMING = 65_536


def row_headers(row_type: RowType) -> Headers:
    """Return the headers of a message whose value is what `encode_rows` returns for that row type."""
    return (
        ("type", TYPE_HEADER.encode()),
        ("row-type", row_type.name.encode()),
        ("schema-version", str(row_type.version).encode()),
        ("content-type", b"application/vnd.apache.arrow.stream"),
    )


def encode_rows(row_type: RowType, batch: pa.RecordBatch) -> pa.Buffer:
    """Return `batch` (schema of `row_type`) as one Arrow IPC stream, uncompressed: the Kafka client compresses.

    The result is a read-only buffer, since a copy as `bytes` would cost as much as the encoding.
    """
    if not batch.num_rows:
        # How much an empty slice writes of its underlying buffers has nothing to do with its size.
        batch = pa.RecordBatch.from_pylist([], schema=row_type.schema)
    # A growing stream would copy its contents into new memory again and again.
    buffer = pa.allocate_buffer(sum(map(_size, batch.columns)) + _MOST_FRAMING)
    with pa.FixedSizeBufferWriter(buffer) as out:
        with pa.ipc.new_stream(out, row_type.schema) as writer:
            writer.write_batch(batch)
        size = out.tell()
    return buffer.slice(0, size)


def _size(column: pa.Array) -> int:
    # The array's own size leaves out dictionary values that a slice does not use, although they are written.
    size: int = column.nbytes
    return size + column.dictionary.nbytes if pa.types.is_dictionary(column.type) else size


def decode_rows(row_type: RowType, data: bytes | pa.Buffer) -> pa.Table:
    """Read one batch of rows; zero-copy on `data`.

    Raises:
        CodecError: if `data` is not an Arrow stream, is inconsistent, has compressed buffers, or belongs to another row type
            or version.
    """
    try:
        _check_plain(data)
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            _check_schema(row_type, reader.schema)
            table = reader.read_all()
        # Arrow trusts what it reads: without this check, a wrong offset or index would be followed out of its buffer.
        table.validate(full=True)
        _check_nulls(row_type, table)
    except (CodecError, pa.ArrowException, OSError) as error:
        raise CodecError(f"not a batch of {row_type.name}: {error}") from error
    return table


def _check_plain(data: bytes | pa.Buffer) -> None:
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(data))
    try:
        while True:
            if is_compressed(memoryview(messages.read_next_message().metadata)):
                raise CodecError("its buffers are compressed")
    except StopIteration:
        return
    except (struct.error, IndexError) as error:
        raise CodecError(str(error)) from error


def _check_schema(row_type: RowType, schema: pa.Schema) -> None:
    wanted = {NAME_KEY: row_type.name, VERSION_KEY: str(row_type.version)}
    stated = schema.metadata or {}
    found = {key: stated.get(key.encode(), value.encode()).decode(errors="replace") for key, value in wanted.items()}
    if found != wanted:
        is_, should = (f"{kind[NAME_KEY]}, version {kind[VERSION_KEY]}" for kind in (found, wanted))
        raise CodecError(f"it holds {is_[:100]}, but this reader expects {should}")
    if not schema.equals(row_type.schema):
        raise CodecError(f"its columns are not those of version {row_type.version}")


def _check_nulls(row_type: RowType, table: pa.Table) -> None:
    missing = [name for name in row_type.never_null if any(map(_has_nulls, table.column(name).chunks))]
    if missing:
        raise CodecError(f"nulls in {', '.join(missing)}")


def _has_nulls(column: pa.Array) -> bool:
    # An index may also point to a null in the dictionary, which the column's null count leaves out.
    hidden = pa.types.is_dictionary(column.type) and column.dictionary.null_count and pc.any(pc.is_null(column)).as_py()
    return bool(column.null_count or hidden)
