"""Flow batches as bytes: what is no flow batch is refused before anything reads it."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from libs.common.errors import CodecError
from libs.common.flows.csv_text import csv_lines
from libs.common.flows.json_text import json_lines
from libs.common.flows.line_text import FlowLines
from libs.common.flows.schema import FLOW_SCHEMA, WORD
from libs.common.flows.wire import decode_flows, encode_flows
from services.parser.kernel import parse
from tests.unit.parser.test_kernel import GOOD, envelope, segment, vnet

BATCH = parse([segment(envelope(vnet(GOOD, GOOD, GOOD)))]).batch


def _with(name: str, column: pa.Array) -> pa.Buffer:
    """Return the batch with another column, unchecked."""
    columns = [column if field.name == name else BATCH[field.name] for field in FLOW_SCHEMA]
    return encode_flows(pa.RecordBatch.from_arrays(columns, schema=FLOW_SCHEMA))


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
    with pytest.raises(CodecError, match="not a flow batch"):
        decode_flows(_with(name, column))


def test_corrupt_batches_are_refused_or_can_be_used() -> None:
    """Whatever bytes of a batch are others, it is refused, or its rows can be written: nothing reads beyond a buffer."""
    chance = random.Random(11)
    whole = encode_flows(BATCH)
    decoded = 0
    for _ in range(3_000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            table = decode_flows(bytes(data))
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
        assert decode_flows(encode_flows(part)).equals(pa.table(part))
