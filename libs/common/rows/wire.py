"""A flow batch as bytes: one Arrow IPC stream with one record batch, schema first, so that a reader needs nothing else.

Its buffers are not compressed, and a reader refuses compressed ones before it unpacks any: a few kilobytes could be gigabytes.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.messages.headers import Headers
from libs.common.rows.ipc_message import is_compressed
from libs.common.rows.types.flows import FLOW_SCHEMA, FLOW_SCHEMA_VERSION

FLOW_BATCH_HEADERS: Headers = (
    ("type", b"flow-batch"),
    ("schema-version", str(FLOW_SCHEMA_VERSION).encode()),
    ("content-type", b"application/vnd.apache.arrow.stream"),
)

# Schema, a message a dictionary, the batch's own, and padding to eight bytes a buffer.
_MOST_FRAMING = 65_536

_NO_ROWS = pa.RecordBatch.from_pylist([], schema=FLOW_SCHEMA)

_NEVER_NULL = tuple(field.name for field in FLOW_SCHEMA if not field.nullable)


def encode_flows(batch: pa.RecordBatch) -> pa.Buffer:
    """Return `batch` (schema `FLOW_SCHEMA`) as one Arrow IPC stream, uncompressed: the Kafka client compresses.

    The buffer is read-only to whoever takes bytes: a copy as `bytes` would cost as much as the encoding.
    """
    if not batch.num_rows:
        batch = _NO_ROWS  # what a slice without rows writes of the buffers behind it is no matter of its size
    # A stream that grows copies what it has again and again, into memory that is new each time.
    buffer = pa.allocate_buffer(sum(map(_size, batch.columns)) + _MOST_FRAMING)
    with pa.FixedSizeBufferWriter(buffer) as out:
        with pa.ipc.new_stream(out, FLOW_SCHEMA) as writer:
            writer.write_batch(batch)
        size = out.tell()
    return buffer.slice(0, size)


def _size(column: pa.Array) -> int:
    # What an array itself states leaves out values of a dictionary that a slice does not use, but they are written.
    size: int = column.nbytes
    return size + column.dictionary.nbytes if pa.types.is_dictionary(column.type) else size


def decode_flows(data: bytes | pa.Buffer) -> pa.Table:
    """Read one flow batch; zero-copy on `data`.

    Raises:
        CodecError: if `data` is no Arrow stream, contradicts itself, has compressed buffers, or has another schema or version
            than this reader knows.
    """
    try:
        _check_plain(data)
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            _check_schema(reader.schema)
            table = reader.read_all()
        # Reading believes what the bytes say about themselves: a wrong offset or index would be followed out of its buffer.
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise CodecError(f"not a flow batch: {error}") from error
    missing = [name for name in _NEVER_NULL if table.column(name).null_count]
    if missing:
        raise CodecError(f"not a flow batch: nulls in {', '.join(missing)}")
    return table


def _check_plain(data: bytes | pa.Buffer) -> None:
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(data))
    try:
        while True:
            if is_compressed(memoryview(messages.read_next_message().metadata)):
                raise CodecError("not a flow batch: its buffers are compressed")
    except StopIteration:
        return
    except (struct.error, IndexError) as error:
        raise CodecError(f"not a flow batch: {error}") from error


def _check_schema(schema: pa.Schema) -> None:
    if not schema.equals(FLOW_SCHEMA):
        version = (schema.metadata or {}).get(b"blobtide.version", b"?").decode(errors="replace")
        raise CodecError(f"flow batch of schema version {version}; this reader knows {FLOW_SCHEMA_VERSION}")
