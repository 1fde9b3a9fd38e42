"""Batches of any row type as bytes: they come back as they were, and are never taken for something else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.headers import Headers
from libs.common.rows.formats.csv import csv_lines
from libs.common.rows.formats.json import json_lines
from libs.common.rows.identity import Identities
from libs.common.rows.reading import reader_of
from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows, encode_rows, row_headers
from tests.damage import damaged
from tests.row_batches import batches

DATA = Path(__file__).parents[1] / "data"
any_row_type = pytest.mark.parametrize("kind", ROW_TYPES.values(), ids=list(ROW_TYPES))


def _example(kind: RowType) -> bytes:
    data: bytes = encode_rows(kind, kind.example_table.to_batches()[0]).to_pybytes()
    return data


def _message(value: bytes | None, headers: Headers) -> Inbound:
    return Inbound("Extracted.Flows", 3, 7, 0, None, value, headers)


def _no_topic_id(topic: str) -> str:
    raise AssertionError(f"asked for the id of {topic}, which these rows do not need")


@any_row_type
@given(data=st.data())
@settings(max_examples=60)
def test_any_batch_survives_the_wire(kind: RowType, data: st.DataObject) -> None:
    """Whatever a row type's columns hold, nulls included, the same rows come back, also from a slice."""
    batch = data.draw(batches(kind))
    assert decode_rows(kind, encode_rows(kind, batch)).equals(pa.Table.from_batches([batch]), check_metadata=True)
    start = data.draw(st.integers(0, batch.num_rows))
    part = batch.slice(start, data.draw(st.integers(0, batch.num_rows - start)))
    assert decode_rows(kind, encode_rows(kind, part)).equals(pa.table(part))


@any_row_type
@given(data=st.data())
@settings(max_examples=40)
def test_any_batch_has_text_and_an_identity_a_row(kind: RowType, data: st.DataObject) -> None:
    """JSON reads back as the row's values, CSV takes every column, and rows have one id exactly if they have one position."""
    batch = data.draw(batches(kind))
    table = pa.Table.from_batches([batch])
    documents = [json.loads(line) for line in json_lines(table).split(b"\n")[:-1]]
    untimed = [column.name for column in kind.columns if not pa.types.is_timestamp(column.type)]
    expected = [{name: row[name] for name in untimed if row[name] is not None} for row in batch.to_pylist()]
    assert [{name: value for name, value in document.items() if name in untimed} for document in documents] == expected
    assert csv_lines(table).startswith(b"time,")
    ids = Identities.of(table, kind.position).document_ids().to_pylist()
    positions = [tuple(row[name] for name in kind.position.names) for row in batch.to_pylist()]
    assert len(ids) == len(positions)
    assert len(set(zip(ids, positions, strict=True))) == len(set(ids)) == len(set(positions))


@any_row_type
def test_a_batch_with_other_bytes_is_refused_or_whole(kind: RowType) -> None:
    """Whatever bytes are changed, the reader raises `CodecError` or gives a table that can be read to its end."""
    read = 0
    for data in damaged(_example(kind), 1_500, seed=3):
        try:
            table = decode_rows(kind, data)
        except CodecError:
            continue
        read += 1
        json_lines(table)
    assert read


@any_row_type
def test_nulls_among_words_are_refused(kind: RowType) -> None:
    """Where every row needs a word, an index that leads to a null among the words is refused as a null is."""
    batch, name = kind.example_table.to_batches()[0], kind.position.source
    words = pa.DictionaryArray.from_arrays(pa.array([1], pa.int32()), pa.array(["word", None]))
    hollow = batch.set_column(batch.schema.get_field_index(name), kind.schema.field(name), words)
    with pytest.raises(CodecError, match=f"nulls in {name}"):
        decode_rows(kind, encode_rows(kind, hollow))


@given(
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9)), max_size=3),
)
def test_any_message_that_holds_no_batch_is_a_codec_error(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    """Bytes and headers of another origin are refused, and nothing else happens."""
    with pytest.raises(CodecError, match="not a batch of flows"):
        reader_of(FLOWS, _no_topic_id)(_message(value, tuple(headers)))


def test_batches_of_before_stay_readable() -> None:
    """A message written before row types had names gives the rows that it held."""
    earlier = json.loads((DATA / "earlier_flow_batch.json").read_text())
    headers = tuple((name, value.encode()) for name, value in earlier["headers"])
    assert headers[0] == ("type", b"flow-batch")
    table = reader_of(FLOWS, _no_topic_id)(_message((DATA / "earlier_flow_batch.arrow").read_bytes(), headers))
    assert [json.loads(line) for line in json_lines(table).splitlines()] == earlier["rows"]
    assert len(earlier["rows"]) == 12


def test_readers_of_before_can_read_what_is_written_now() -> None:
    """The bytes of a batch have not changed: what was read and is written again is the same, byte for byte."""
    earlier = (DATA / "earlier_flow_batch.arrow").read_bytes()
    [batch] = decode_rows(FLOWS, earlier).to_batches()
    assert encode_rows(FLOWS, batch).to_pybytes() == earlier


@any_row_type
def test_a_message_says_its_row_type_and_version_twice(kind: RowType) -> None:
    """In a header, for those who filter, and in the schema's metadata, for those who have only the bytes."""
    told = dict(row_headers(kind))
    assert (told["row-type"], told["schema-version"]) == (kind.name.encode(), str(kind.version).encode())
    metadata = pa.ipc.open_stream(_example(kind)).schema.metadata
    assert metadata == {b"blobtide.schema": kind.name.encode(), b"blobtide.version": str(kind.version).encode()}


def _relabelled(**metadata: str) -> bytes:
    [batch] = FLOWS.example_table.to_batches()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, FLOWS.schema.with_metadata(metadata)) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.mark.parametrize(
    ("value", "headers", "problem"),
    [
        (_example(FLOWS), row_headers(DEAD_LETTERS), "its header says 'dead_letters'"),
        (_example(FLOWS), (("type", b"row-batch"), ("row-type", b"comets")), "its header says 'comets'"),
        (_example(FLOWS), (("type", b"row-batch"),), "its header says ''"),
        (_example(DEAD_LETTERS), (), "it holds dead_letters, version 1"),
        (_relabelled(**{"blobtide.schema": "comets"}), (), "it holds comets, version 1"),
        (_relabelled(**{"blobtide.schema": "flows", "blobtide.version": "2"}), row_headers(FLOWS), "it holds flows, version 2"),
    ],
)
def test_another_row_type_or_version_is_refused_by_name(value: bytes, headers: Headers, problem: str) -> None:
    """A message of a row type or version that the reader does not know is a `CodecError` that says which it is."""
    with pytest.raises(CodecError, match=problem):
        reader_of(FLOWS, _no_topic_id)(_message(value, headers))
