"""Names of fields and attributes are those that the standards publish."""

from __future__ import annotations

import csv
import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as developing

from libs.common.rows.formats.ecs import ECS_VERSION, ecs_columns
from libs.common.rows.formats.ecs_types import ecs_columns_of, ecs_fields_of
from libs.common.rows.formats.encoders import RowFormat, encoder_for
from libs.common.rows.formats.json import json_documents
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from tests import row_samples as samples
from tests.documents import flattened
from tests.flows import Spot, row, table
from tests.log_documents import LOGS

# The Elastic Common Schema as published (generated/csv/fields.csv, schemas/event.yml): field sets that logs may use.
PUBLISHED = {
    field["field"]: field
    for field in csv.DictReader((Path(__file__).parents[1] / "data" / f"ecs-{ECS_VERSION}.csv").read_text().splitlines())
}
OWN = "blobtide."
FLOW_ROWS = st.builds(
    lambda **changes: row(Spot(0, 0, 0), **changes),
    src_ip=st.sampled_from(["10.0.0.4", "2001:db8::1"]),
    protocol=st.sampled_from([1, 6, 17, 58, 255]),
    direction=st.sampled_from([None, "inbound", "outbound"]),
    action=st.sampled_from([None, "allow", "deny"]),
    state=st.sampled_from([None, "begin", "continuing", "end", "deny"]),
    mac=st.sampled_from([None, "000D3AF87856"]),
)


@pytest.mark.parametrize("row_type", [FLOWS, ROLLUPS, *LOGS], ids=lambda row_type: row_type.name)
def test_mapped_fields_have_the_published_types(row_type: RowType) -> None:
    """What is not of the Elastic Common Schema is ours by its name. A date may be one of nanoseconds."""
    ecs = {name: kind for name, kind in ecs_fields_of(row_type).items() if not name.startswith(OWN)}
    assert {name: kind.removesuffix("_nanos") for name, kind in ecs.items()} == {name: PUBLISHED[name]["type"] for name in ecs}


@given(FLOW_ROWS)
def test_documents_are_valid_in_the_elastic_common_schema(values: dict[str, Any]) -> None:
    """Each field is published, is an array where one is expected and only there, and has an allowed value."""
    (document,) = json_documents(ecs_columns(table([values]))).to_pylist()
    check(document)


@pytest.mark.parametrize("row_type", [ROLLUPS, *LOGS], ids=lambda row_type: row_type.name)
def test_documents_of_logs_are_valid_in_the_elastic_common_schema(row_type: RowType) -> None:
    """The same holds for rollups and logs."""
    for document in json_documents(ecs_columns_of(row_type)(samples.table(row_type, samples.rows(row_type)))).to_pylist():
        check(document)


def check(document: str) -> None:
    """Compare a document with the schema."""
    found = {name: value for name, value in flattened(json.loads(document)) if not name.startswith(OWN)}
    assert found.keys() <= PUBLISHED.keys()
    for name, value in found.items():
        assert isinstance(value, list) == (PUBLISHED[name]["normalization"] == "array"), name
        allowed = PUBLISHED[name]["allowed"]
        assert not allowed or set(value if isinstance(value, list) else [value]) <= set(allowed.split("|")), name


@given(FLOW_ROWS)
def test_attributes_are_registered_in_the_semantic_conventions(values: dict[str, Any]) -> None:
    """An attribute that OpenTelemetry does not register is ours by its name."""
    check_record(FLOWS, table([values]))


@pytest.mark.parametrize("row_type", [ROLLUPS, *LOGS], ids=lambda row_type: row_type.name)
def test_attributes_of_logs_are_registered_in_the_semantic_conventions(row_type: RowType) -> None:
    """The same holds for rollups and logs."""
    for content in samples.rows(row_type):
        check_record(row_type, samples.table(row_type, [content]))


def check_record(row_type: RowType, row: pa.Table) -> None:
    """Compare the attributes of a row's record with the conventions."""
    (datum,) = encoder_for(RowFormat.OTEL, row_type, Shape.of(row_type)).encode(row)
    (logs,) = json.loads(datum)["resourceLogs"]
    (record,) = logs["scopeLogs"][0]["logRecords"]
    names = {attribute["key"] for attribute in (*logs["resource"]["attributes"], *record["attributes"])}
    assert {name for name in names if not name.startswith(OWN)} <= REGISTERED


def registered() -> Iterator[str]:
    """Yield the names of attributes that the package of the conventions declares."""
    for package in (stable, developing):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield from (value for value in vars(import_module(found.name)).values() if isinstance(value, str))


REGISTERED = frozenset(registered())
