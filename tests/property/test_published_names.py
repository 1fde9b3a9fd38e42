"""Names of fields and attributes are those that the standards publish."""

from __future__ import annotations

import csv
import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as developing

from libs.common.rows.formats.ecs import ECS_VERSION, FIELDS, ecs_columns
from libs.common.rows.formats.encoders import RowFormat, encoder_for
from libs.common.rows.formats.json import json_documents
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS
from tests.flows import Spot, row, table

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


def test_mapped_fields_have_the_published_types() -> None:
    """What is not of the Elastic Common Schema is ours by its name."""
    ecs = {name: kind for name, kind in FIELDS.items() if not name.startswith(OWN)}
    assert ecs == {name: PUBLISHED[name]["type"] for name in ecs}


@given(FLOW_ROWS)
def test_documents_are_valid_in_the_elastic_common_schema(values: dict[str, Any]) -> None:
    """Each field is published, is an array where one is expected and only there, and has an allowed value."""
    (document,) = json_documents(ecs_columns(table([values]))).to_pylist()
    found = {name: value for name, value in flattened(json.loads(document)) if not name.startswith(OWN)}
    assert found.keys() <= PUBLISHED.keys()
    for name, value in found.items():
        assert isinstance(value, list) == (PUBLISHED[name]["normalization"] == "array"), name
        allowed = PUBLISHED[name]["allowed"]
        assert not allowed or set(value if isinstance(value, list) else [value]) <= set(allowed.split("|")), name


@given(FLOW_ROWS)
def test_attributes_are_registered_in_the_semantic_conventions(values: dict[str, Any]) -> None:
    """An attribute that OpenTelemetry does not register is ours by its name."""
    (datum,) = encoder_for(RowFormat.OTEL, FLOWS, Shape.of(FLOWS)).encode(table([values]))
    (logs,) = json.loads(datum)["resourceLogs"]
    (record,) = logs["scopeLogs"][0]["logRecords"]
    names = {attribute["key"] for attribute in (*logs["resource"]["attributes"], *record["attributes"])}
    assert {name for name in names if not name.startswith(OWN)} <= REGISTERED


def flattened(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field with its dotted name."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def registered() -> Iterator[str]:
    """Yield the names of attributes that the package of the conventions declares."""
    for package in (stable, developing):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield from (value for value in vars(import_module(found.name)).values() if isinstance(value, str))


REGISTERED = frozenset(registered())
