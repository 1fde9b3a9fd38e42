"""Every format of every row type, read back by somebody else's reader."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import numpy as np
import pyarrow as pa
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.rows.formats.avro import AvroRows, avro_schema
from libs.common.rows.formats.encoders import Encoder, RowFormat, documents_for, encoder_for, formats_for
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from tests.documents import ecs_document
from tests.flows import Spot
from tests.otlp_records import expected_record
from tests.row_samples import document as flat
from tests.row_samples import row, rows, table

KINDS = [(row_type, form) for row_type in ROW_TYPES.values() for form in formats_for(row_type)]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
of_any_type = pytest.mark.parametrize("row_type", ROW_TYPES.values(), ids=ROW_TYPES)


def encoder(form: RowFormat, row_type: RowType, columns: Sequence[str] | None = None, **rename: str) -> Encoder:
    """Return an encoder of some columns."""
    return encoder_for(form, row_type, Shape.of(row_type, columns, rename))


@pytest.mark.parametrize(("row_type", "form"), KINDS, ids=[f"{one.name}-{form}" for one, form in KINDS])
def test_a_format_gives_one_datum_a_row(row_type: RowType, form: RowFormat) -> None:
    """However many rows there are, also none and more than a slice."""
    for content in ([], rows(row_type)[:1], rows(row_type, 6, 20, 20)):
        encoded = encoder(form, row_type).encode(table(row_type, content))
        assert len(encoded) == len(content)
        assert all(type(datum) is bytes for datum in encoded)
        assert all(encoded)


@of_any_type
def test_json_has_every_value_and_the_time_first(row_type: RowType) -> None:
    """A document has the columns that the row has, in the order of the type, and begins with the time."""
    content = rows(row_type)
    found = [json.loads(one) for one in encoder(RowFormat.JSON, row_type).encode(table(row_type, content))]
    assert found == [flat(row_type, values) for values in content]
    assert all(next(iter(one)) == row_type.time for one in found)


@of_any_type
def test_csv_reads_back(row_type: RowType) -> None:
    """Each row is one record of CSV, also where text has line ends and quotes."""
    content = rows(row_type)
    encoded = encoder(RowFormat.CSV, row_type).encode(table(row_type, content))
    for values, line in zip(content, encoded, strict=True):
        (fields,) = csv.reader(io.StringIO(line.decode(), newline=""))
        assert fields == [_csv_text(flat(row_type, values).get(name)) for name in row_type.names]


@of_any_type
def test_csv_reads_back_in_another_dialect(row_type: RowType, tmp_path: Path) -> None:
    """DuckDB, which reads CSV as databases do, finds the same fields as Python's reader."""
    content = rows(row_type)
    file = tmp_path / "rows.csv"
    file.write_bytes(b"".join(one + b"\n" for one in encoder(RowFormat.CSV, row_type).encode(table(row_type, content))))
    columns = dict.fromkeys(row_type.names, "VARCHAR")
    found = duckdb.read_csv(
        str(file), header=False, columns=columns, auto_detect=False, sep=",", quotechar='"', escapechar='"', na_values=""
    ).fetchall()
    flats = [flat(row_type, values) for values in content]
    assert found == [tuple(_csv_text(one.get(name)) or None for name in row_type.names) for one in flats]


def _csv_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


@of_any_type
@pytest.mark.parametrize("schema_id", [None, 77])
def test_avro_reads_back_and_says_its_schema(row_type: RowType, schema_id: int | None) -> None:
    """A datum names its schema by fingerprint or by the registry's number, and has every value."""
    content = rows(row_type)
    schema = avro_schema(row_type, row_type.schema)
    for values, datum in zip(
        content, AvroRows(row_type, row_type.schema, schema_id).encode(table(row_type, content)), strict=True
    ):
        mark = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
        mark = mark if schema_id is None else b"\x00\x00\x00\x00\x4d"
        assert datum.startswith(mark)
        plain = fastavro.parse_schema(_without_logical_types(schema))
        assert fastavro.schemaless_reader(io.BytesIO(datum[len(mark) :]), plain, None) == values


def _without_logical_types(schema: Any) -> Any:
    match schema:
        case dict():
            return {name: _without_logical_types(value) for name, value in schema.items() if name != "logicalType"}
        case list():
            return [_without_logical_types(one) for one in schema]
        case _:
            return schema


@of_any_type
def test_otel_has_every_row_as_a_log_record(row_type: RowType) -> None:
    """A request has one record with the row's time; what the row states is an attribute, and nothing else is."""
    content = rows(row_type)
    for values, datum in zip(content, encoder(RowFormat.OTEL, row_type).encode(table(row_type, content)), strict=True):
        (record,) = json.loads(datum)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        assert record["timeUnixNano"] == str(expected_record(row_type, values)["time"])
        attributes = {one["key"]: one["value"] for one in record["attributes"]}
        assert len(attributes) == len(record["attributes"])
        position = row_type.position
        assert attributes[f"blobtide.{position.source}"] == {"stringValue": values[position.source]}
        assert attributes[f"blobtide.{position.offset}"] == {"intValue": str(values[position.offset])}
        assert attributes.keys() == expected_record(row_type, values)["attributes"].keys()


def test_flows_have_the_names_of_the_conventions() -> None:
    """Ends, protocol, direction and rule of a flow are attributes that OpenTelemetry has names for."""
    (datum,) = encoder(RowFormat.OTEL, FLOWS).encode(table(FLOWS, [row(FLOWS, Spot(0, 0, 0), target_id="/t")]))
    (record,) = json.loads(datum)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    attributes = {one["key"]: next(iter(one["value"].values())) for one in record["attributes"]}
    assert attributes["source.address"] == "10.0.0.4"
    assert attributes["destination.port"] == "443"
    assert attributes["network.transport"] == "tcp"
    assert attributes["network.io.direction"] == "transmit"
    assert attributes["security_rule.name"] == "DefaultRule_Allow"
    assert attributes["cloud.resource_id"] == "/t"
    assert attributes["blobtide.action"] == "allow"
    assert attributes["log.record.uid"].endswith("-20-0")
    assert record["body"] == {"stringValue": "allow outbound TCP 10.0.0.4:40000 -> 52.0.0.7:443"}
    assert (record["severityNumber"], record["severityText"]) == (9, "INFO")
    assert record["observedTimeUnixNano"] == "1777636800123456700"


def test_columns_are_chosen_in_every_format() -> None:
    """What was not chosen is in no format, and the time is never left out of ECS."""
    content = table(FLOWS, rows(FLOWS)[:1])
    chosen = ["src_ip", "rule"]
    assert json.loads(encoder(RowFormat.JSON, FLOWS, chosen).encode(content)[0]) == {
        "src_ip": "10.0.0.4",
        "rule": "DefaultRule_Allow",
    }
    assert encoder(RowFormat.CSV, FLOWS, chosen).encode(content) == [b"10.0.0.4,DefaultRule_Allow"]
    assert encoder(RowFormat.LINE, FLOWS, chosen).encode(content) == [b"10.0.0.4 rule=DefaultRule_Allow"]
    ecs = json.loads(encoder(RowFormat.ECS, FLOWS, chosen).encode(content)[0])
    assert ecs["@timestamp"] == "2026-05-01T12:00:00.000Z"
    assert (ecs["source"], ecs["rule"]) == ({"ip": "10.0.0.4"}, {"name": "DefaultRule_Allow"})
    assert "destination" not in ecs
    assert "blobtide" not in ecs
    assert b"10.0.0.4" not in encoder(RowFormat.OTEL, FLOWS, ["time", "rule"]).encode(content)[0]


def test_all_columns_of_ecs_are_the_document() -> None:
    """Without a choice of columns ECS is what it is without this table of formats."""
    content = rows(FLOWS)
    found = [json.loads(one) for one in encoder(RowFormat.ECS, FLOWS).encode(table(FLOWS, content))]
    assert found == [ecs_document(values) for values in content]


def test_new_names_nest_in_json() -> None:
    """A dot in a new name makes an object."""
    (datum,) = encoder(RowFormat.JSON, FLOWS, ["src_ip", "src_port"], src_ip="source.ip", src_port="source.port").encode(
        table(FLOWS, rows(FLOWS)[:1])
    )
    assert json.loads(datum) == {"source": {"ip": "10.0.0.4", "port": 40_000}}


def test_the_weight_of_a_sample_is_said() -> None:
    """Rows of a sample say in every format for how many they stand."""
    content = table(FLOWS, rows(FLOWS)[:1])
    content = content.append_column("sample_weight", pa.array(np.full(1, 2.5)))
    shape = Shape.of(FLOWS, added=["sample_weight"])
    said = {form: encoder_for(form, FLOWS, shape).encode(content)[0] for form in RowFormat}
    assert json.loads(said[RowFormat.JSON])["sample_weight"] == 2.5
    assert json.loads(said[RowFormat.ECS])["blobtide"]["sample_weight"] == 2.5
    assert b'{"key":"blobtide.sample_weight","value":{"doubleValue":2.5}}' in said[RowFormat.OTEL]
    assert said[RowFormat.CSV].endswith(b",2.5")
    assert said[RowFormat.AVRO].endswith(np.float64(2.5).tobytes())


@pytest.mark.parametrize(
    ("form", "row_type", "rename", "message"),
    [
        (RowFormat.ECS, DEAD_LETTERS, {}, "ecs is not available for dead_letters; choose one of json, otel, csv, line, avro"),
        (RowFormat.ECS, FLOWS, {"src_ip": "a"}, "names of ecs are fixed"),
        (RowFormat.OTEL, FLOWS, {"src_ip": "a"}, "names of otel are fixed"),
        (RowFormat.AVRO, FLOWS, {"src_ip": "source.ip"}, "source.ip cannot name a field in Avro"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    form: RowFormat, row_type: RowType, rename: dict[str, str], message: str
) -> None:
    """A format that a row type has not, and names that a format cannot have, are refused before any row comes."""
    with pytest.raises(ConfigError, match=message):
        encoder(form, row_type, **rename)


def test_only_json_makes_documents() -> None:
    """A destination of documents takes no other format."""
    with pytest.raises(ConfigError, match="csv does not produce JSON documents"):
        documents_for(RowFormat.CSV, FLOWS, Shape.of(FLOWS))


@given(st.lists(texts, min_size=1, max_size=20))
def test_any_text_is_one_line(values: list[str]) -> None:
    """Text that a terminal would obey, or that has line ends, makes a line that is one line and obeys nothing."""
    content = [row(DEAD_LETTERS, Spot(0, at, 0), reason=text, stage=text) for at, text in enumerate(values)]
    for line in encoder(RowFormat.LINE, DEAD_LETTERS).encode(table(DEAD_LETTERS, content)):
        assert all(character.isprintable() or character == " " for character in line.decode() if ord(character) < 0xA0)
        assert len(line.decode().splitlines()) == 1


@given(st.lists(texts, min_size=1, max_size=20))
def test_any_text_survives(values: list[str]) -> None:
    """Whatever text a row has, documents, CSV and Avro give it back."""
    content = [row(DEAD_LETTERS, Spot(0, at, 0), reason=text, code=text) for at, text in enumerate(values)]
    letters = table(DEAD_LETTERS, content)
    columns = ["reason", "code"]
    for datum, text in zip(encoder(RowFormat.JSON, DEAD_LETTERS, columns).encode(letters), values, strict=True):
        assert json.loads(datum) == {"reason": text, "code": text}
    for datum, text in zip(encoder(RowFormat.CSV, DEAD_LETTERS, columns).encode(letters), values, strict=True):
        assert next(csv.reader(io.StringIO(datum.decode(), newline=""))) == [text, text]
