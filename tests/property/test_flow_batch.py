"""Flow batches as bytes: what is no flow batch is refused before anything reads it."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from libs.common.errors import CodecError
from libs.common.rows.formats.csv import csv_lines
from libs.common.rows.formats.json import json_lines
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.ipc_message import is_compressed
from libs.common.rows.row_type import WORD
from libs.common.rows.types.flows import FLOW_SCHEMA, FLOWS
from libs.common.rows.wire import decode_rows, encode_rows
from services.parser.flows.kernel import parse
from tests.damage import damaged
from tests.unit.parser.test_kernel import GOOD, envelope, segment, vnet

BATCH = parse([segment(envelope(vnet(GOOD, GOOD, GOOD)))]).batch


def _with(name: str, column: pa.Array) -> pa.Buffer:
    """Return the batch with another column, unchecked."""
    columns = [column if field.name == name else BATCH[field.name] for field in FLOW_SCHEMA]
    return encode_rows(FLOWS, pa.RecordBatch.from_arrays(columns, schema=FLOW_SCHEMA))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("rule", pa.DictionaryArray.from_arrays(pa.array([0, 7, 0], pa.int32()), pa.array(["r"]), safe=False).cast(WORD)),
        (
            "src_ip",
            pa.Array.from_buffers(
                pa.string(), 3, [None, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe\xfd")]
            ),
        ),
        ("dst_ip", pa.array(["a", None, "b"])),
    ],
    ids=["index", "text", "null"],
)
def test_a_batch_that_contradicts_itself_is_refused(name: str, column: pa.Array) -> None:
    """An index beyond its dictionary, text that is no UTF-8 and a null where none may be are errors of the message."""
    with pytest.raises(CodecError, match="not a batch of flows"):
        decode_rows(FLOWS, _with(name, column))


def test_corrupt_batches_are_refused_or_can_be_used() -> None:
    """Whatever bytes of a batch are others, it is refused, or its rows can be written: nothing reads beyond a buffer."""
    decoded = 0
    for data in damaged(encode_rows(FLOWS, BATCH).to_pybytes(), 3_000, seed=11):
        try:
            table = decode_rows(FLOWS, data)
        except CodecError:
            continue
        decoded += 1
        table = pa.concat_tables([table]).unify_dictionaries().combine_chunks()
        for written in (json_lines, csv_lines, FlowLines().text):
            written(table)
    assert decoded


def test_any_slice_is_encoded_as_its_rows() -> None:
    """The room that is set aside for a batch is enough whatever part of a larger one it is, with and without nulls."""
    chance = random.Random(12)
    many = pa.RecordBatch.from_arrays([pa.concat_arrays([column] * 3_000) for column in BATCH.columns], schema=FLOW_SCHEMA)
    for _ in range(200):
        start = chance.randrange(many.num_rows)
        rows = chance.choice([0, 1, 7, 8, 9, 64, 65, chance.randrange(many.num_rows - start)])
        part = many.slice(start, rows)
        assert decode_rows(FLOWS, encode_rows(FLOWS, part)).equals(pa.table(part))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_batches_are_refused_before_they_are_unpacked(codec: str) -> None:
    """Some kilobytes could be gigabytes: neither the rows nor a dictionary may be compressed."""
    schema = pa.schema([pa.field("a", pa.dictionary(pa.int32(), pa.string()))])
    words = pa.array(["x" * 1_000_000] * 2).dictionary_encode()
    for batch in (BATCH, pa.RecordBatch.from_arrays([words], schema=schema)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_batch(batch)
        before = pa.total_allocated_bytes()
        with pytest.raises(CodecError, match="compressed"):
            decode_rows(FLOWS, sink.getvalue())
        assert pa.total_allocated_bytes() == before


def test_each_message_says_for_itself_whether_it_is_compressed() -> None:
    """Schema, dictionaries and rows are told apart, in the order of the stream."""
    for codec, expected in ((None, [False] * 3), ("zstd", [False, True, True])):
        sink = pa.BufferOutputStream()
        words = pa.RecordBatch.from_arrays([pa.array(["x" * 1000]).dictionary_encode()], ["a"])
        with pa.ipc.new_stream(sink, words.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_batch(words)
        messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
        assert [is_compressed(memoryview(message.metadata)) for message in messages] == expected
