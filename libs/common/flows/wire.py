"""A flow batch as bytes: one Arrow IPC stream with one record batch, schema first, so that a reader needs nothing else."""

from __future__ import annotations

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.flows.schema import FLOW_SCHEMA, FLOW_SCHEMA_VERSION
from libs.common.segments import Headers

FLOW_BATCH_HEADERS: Headers = (
    ("type", b"flow-batch"),
    ("schema-version", str(FLOW_SCHEMA_VERSION).encode()),
    ("content-type", b"application/vnd.apache.arrow.stream"),
)

_NEVER_NULL = tuple(field.name for field in FLOW_SCHEMA if not field.nullable)


def encode_flows(batch: pa.RecordBatch) -> bytes:
    """Return `batch` (schema `FLOW_SCHEMA`) as one Arrow IPC stream, uncompressed: the Kafka client compresses."""
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, FLOW_SCHEMA) as writer:
        writer.write_batch(batch)
    return bytes(out.getvalue())


def decode_flows(data: bytes) -> pa.Table:
    """Read one flow batch; zero-copy on `data`.

    Raises:
        CodecError: if `data` is no Arrow stream, contradicts itself, or has another schema or version than this reader knows.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            table = reader.read_all()
        _check_schema(table.schema)
        # Reading believes what the bytes say about themselves: a wrong offset or index would be followed out of its buffer.
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise CodecError(f"not a flow batch: {error}") from error
    missing = [name for name in _NEVER_NULL if table.column(name).null_count]
    if missing:
        raise CodecError(f"not a flow batch: nulls in {', '.join(missing)}")
    return table


def _check_schema(schema: pa.Schema) -> None:
    if not schema.equals(FLOW_SCHEMA):
        version = (schema.metadata or {}).get(b"blobtide.version", b"?").decode(errors="replace")
        raise CodecError(f"flow batch of schema version {version}; this reader knows {FLOW_SCHEMA_VERSION}")
