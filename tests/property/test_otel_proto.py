"""Log records in protobuf, read back with OpenTelemetry's own classes, and in JSON, which says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.json_format import Parse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from libs.common.rows.formats.encoders import RowFormat, encoder_for, log_records_for
from libs.common.rows.formats.otel_proto import VARINTS, record_bytes, request, varint, varint_sizes, varints
from libs.common.rows.row_text import SMALL
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from tests.flows import Spot
from tests.kinds_of_rows import THINGS
from tests.otlp_records import expected_record, record_of, records_of
from tests.row_samples import row, rows, table

of_any_type = pytest.mark.parametrize("row_type", ROW_TYPES.values(), ids=ROW_TYPES)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
int64s = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300) | st.sampled_from([2**bits - 1 for bits in range(1, 64)])


def body(row_type: RowType, content: pa.Table) -> bytes:
    """Return the request of some rows."""
    return b"".join(request(pa.chunked_array(record_bytes(row_type, content).slices(), pa.binary())))


@of_any_type
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 3, 4), (6, 20, 20)])
def test_every_row_is_a_record(row_type: RowType, size: tuple[int, int, int]) -> None:
    """A request has one record a row, with all that the row states and nothing else, also beyond one slice."""
    content = rows(row_type, *size)
    found = body(row_type, table(row_type, content))
    assert list(records_of(found)) == [expected_record(row_type, values) for values in content]
    assert len(ExportLogsServiceRequest.FromString(found).SerializeToString()) == len(found)


def test_no_rows_are_an_empty_request() -> None:
    """A request without records is one all the same."""
    assert list(records_of(body(FLOWS, table(FLOWS, [])))) == []


@of_any_type
def test_json_says_the_same(row_type: RowType) -> None:
    """OpenTelemetry's reader of OTLP's JSON finds the same record in a message as in a request."""
    content = table(row_type, rows(row_type))
    encoded = encoder_for(RowFormat.OTEL, row_type, Shape.of(row_type)).encode(content)
    from_json = [Parse(datum, ExportLogsServiceRequest()) for datum in encoded]
    whole = ExportLogsServiceRequest.FromString(body(row_type, content))
    records = whole.resource_logs[0].scope_logs[0].log_records
    assert [record_of(one.resource_logs[0].scope_logs[0].log_records[0]) for one in from_json] == list(map(record_of, records))
    assert from_json[0].resource_logs[0].resource == whole.resource_logs[0].resource
    assert from_json[0].resource_logs[0].scope_logs[0].scope == whole.resource_logs[0].scope_logs[0].scope


@given(st.lists(st.tuples(texts, texts | st.none(), int64s | st.none()), min_size=1, max_size=30))
def test_any_value_survives(values: Sequence[tuple[str, str | None, int | None]]) -> None:
    """Any text and any number of any size is read back."""
    content = [
        row(DEAD_LETTERS, Spot(0, at, 0), reason=reason, bytes_text=text, size=number, record_offset=number)
        for at, (reason, text, number) in enumerate(values)
    ]
    found = list(records_of(body(DEAD_LETTERS, table(DEAD_LETTERS, content))))
    assert found == [expected_record(DEAD_LETTERS, one) for one in content]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_time_is_a_time_of_otlp(times: Sequence[int]) -> None:
    """Times outside the range become its ends; both encodings do that."""
    content = table(FLOWS, [row(FLOWS, Spot(0, at, 0), time=time, record_time=None) for at, time in enumerate(times)])
    found = [record["time"] for record in records_of(body(FLOWS, content))]
    assert found == [min(max(time, 0), (2**63 - 1) // 1_000_000) * 1_000_000 for time in times]
    encoded = encoder_for(RowFormat.OTEL, FLOWS, Shape.of(FLOWS, ["time", "rule"])).encode(content)
    records = [json.loads(datum)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0] for datum in encoded]
    assert [(int(one["timeUnixNano"]), int(one["observedTimeUnixNano"])) for one in records] == [(time, time) for time in found]


numbers = st.none() | st.floats(allow_nan=False) | st.booleans()


@given(st.lists(st.tuples(numbers, st.booleans() | st.none(), st.integers(0, 65_535) | st.none()), min_size=1, max_size=30))
@settings(max_examples=50)
def test_every_type_of_column_has_a_value(values: Sequence[tuple[Any, bool | None, int | None]]) -> None:
    """Real numbers, booleans and small numbers are values of their own kind."""
    names = ["time", "word", "text", "small", "big", "real", "flag", "source", "generation", "offset", "index"]
    content = [
        {"time": at, "word": "w", "text": "", "small": small, "big": -at, "real": None if real is None else float(real)}
        | {"flag": flag, "source": "s", "generation": "g", "offset": at, "index": 0}
        for at, (real, flag, small) in enumerate(values)
    ]
    schema = pa.schema([THINGS.schema.field(name) for name in names])
    found = [one["attributes"] for one in records_of(body(THINGS, pa.Table.from_pylist(content, schema=schema)))]
    for one, row_ in zip(found, content, strict=True):
        stated = {f"blobtide.{name}": row_[name] for name in names if name != "time" and row_[name] is not None}
        assert {name: value for name, value in one.items() if name != "log.record.uid"} == stated


@given(st.lists(int64s, max_size=50))
def test_varints_are_those_of_single_numbers(values: Sequence[int]) -> None:
    """Numbers encoded as a column are encoded as they are one by one."""
    numbers = np.array(values, np.int64)
    encoded = varints(numbers).to_pylist()
    assert encoded == [varint(value % 2**64) for value in values]
    assert varint_sizes(numbers).tolist() == list(map(len, encoded))


def test_small_numbers_are_at_their_places() -> None:
    """Whatever is looked up is the varint of its place."""
    assert VARINTS.small().to_pylist() == list(map(varint, range(SMALL)))


def test_columns_that_are_left_out_are_in_no_record() -> None:
    """With a choice of columns there are no attributes of others, no uid without a position, and no line of unknown ends."""
    content = table(FLOWS, rows(FLOWS)[:1])
    records = log_records_for(FLOWS, Shape.of(FLOWS, ["action", "rule"]))(content)
    (record,) = records_of(b"".join(request(pa.chunked_array(records.slices()))))
    assert record["attributes"] == {"security_rule.name": "DefaultRule_Allow", "blobtide.action": "allow"}
    assert record["body"] == "allow"
    nothing = log_records_for(FLOWS, Shape.of(FLOWS, ["time"]))(content)
    (record,) = records_of(b"".join(request(pa.chunked_array(nothing.slices()))))
    assert (record["attributes"], record["body"]) == ({}, None)


def test_the_weight_of_a_sample_is_an_attribute() -> None:
    """A row of a sample says for how many it stands."""
    content = table(FLOWS, rows(FLOWS)[:1]).append_column("sample_weight", pa.array([2.5]))
    records = log_records_for(FLOWS, Shape.of(FLOWS, added=["sample_weight"]))(content)
    (record,) = records_of(b"".join(request(pa.chunked_array(records.slices()))))
    assert record["attributes"]["blobtide.sample_weight"] == 2.5


def test_the_resource_may_say_more() -> None:
    """Attributes of the resource are added, or replace those that are there."""
    more = {"service.name": "edge", "deployment.environment.name": "prod"}
    (records,) = record_bytes(FLOWS, table(FLOWS, rows(FLOWS)[:1])).slices()
    found = b"".join(request(pa.chunked_array([records]), more))
    assert len(list(records_of(found, more))) == 1
