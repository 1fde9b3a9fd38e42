"""Documents and ids made from columns are those made row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.ecs import FIELDS, ecs_columns
from libs.common.rows.formats.ecs_logs import log_columns, log_fields
from libs.common.rows.formats.ecs_types import ecs_columns_of, ecs_fields_of
from libs.common.rows.formats.json import json_documents
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.types.spans import SPANS
from tests import row_samples as samples
from tests.documents import document_id, ecs_document, flattened
from tests.flows import Spot, row, table
from tests.log_documents import LOGS, log_document

SPOTS = st.builds(Spot, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 1))
COUNTS = st.none() | st.integers(0, 2**40) | st.integers(2**62, 2**63 - 1)
CHANGES: Mapping[str, st.SearchStrategy[Any]] = {
    "src_ip": st.sampled_from(["10.0.0.4", "2001:db8::1"]),
    "protocol": st.integers(0, 255),
    "direction": st.sampled_from([None, "inbound", "outbound", "X"]),
    "action": st.sampled_from([None, "allow", "deny"]),
    "state": st.sampled_from([None, "begin", "continuing", "end", "deny", "?"]),
    "packets_sent": COUNTS,
    "bytes_sent": COUNTS,
    "packets_received": COUNTS,
    "bytes_received": COUNTS,
    "rule": st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
    "mac": st.sampled_from([None, "000D3AF87856", "112233445566"]),
    "resource_id": st.sampled_from(
        [None, "", "/subscriptions/AB-1/resourceGroups/x", "/SUBSCRIPTIONS/c", "nowhere", "/subscriptions/"]
    ),
    "record_time": st.none() | st.integers(0, 2**60).map(lambda n: n * 100 % 2**62),
}
ROWS = st.builds(lambda spot, changes: row(spot, **changes), SPOTS, st.fixed_dictionaries({}, optional=CHANGES))


@given(st.lists(ROWS, max_size=6), st.lists(ROWS, max_size=6))
def test_documents_are_those_of_the_rows(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """The ECS document and the id of each row of a table of several chunks are as written down row by row."""
    flows = pa.concat_tables([table(first), table(second).slice(0), table([])])
    content = first + second
    documents = json_documents(ecs_columns(flows)).to_pylist()
    assert [json.loads(document) for document in documents] == [ecs_document(values) for values in content]
    assert Identities.of(flows, FLOWS.position).document_ids().to_pylist() == [document_id(values) for values in content]


def test_the_mappings_are_of_the_columns() -> None:
    """The index template maps exactly the fields that documents have, and its order is theirs: the time first."""
    columns = list(ecs_columns(table([row(Spot(0, 0, 0))])))
    assert columns == list(FIELDS)
    assert columns[0] == "@timestamp"


TIMES = st.sampled_from([0, 1_777_636_801_123_000_000, 2**62, -(2**63) // 2 - 5])
TEXTS = st.none() | st.text(st.characters(codec="utf-8"), max_size=8)
ADDRESSES = st.sampled_from([None, "10.0.0.4", "300.0.0.4", "2001:db8::1", "fe80::1%eth0", "unknown", "::1", ":", ""])


@pytest.mark.parametrize("row_type", LOGS, ids=lambda row_type: row_type.name)
@given(data=st.data())
def test_documents_of_logs_are_those_of_the_rows(row_type: RowType, data: st.DataObject) -> None:
    """The document of each row of a log has the row's values under the names of the schema, and no wrong addresses."""
    changes: dict[str, Any] = {
        "client_address": data.draw(ADDRESSES),
        "pod_ip": data.draw(ADDRESSES),
        "resource_id": data.draw(st.sampled_from([None, "", "/subscriptions/AB-1/resourceGroups/x", "nowhere"])),
        "correlation_id": data.draw(TEXTS),
    }
    if row_type is SPANS:
        changes |= data.draw(st.fixed_dictionaries({"time": TIMES, "end_time": st.none() | TIMES}))
    elif row_type is not APPLICATION:
        changes["response_time"] = data.draw(st.none() | st.sampled_from([0, 12, 2**62, -(2**63)]))
    content = [samples.row(row_type, Spot(0, 0, at), **changes) for at in range(3)]
    rows = samples.table(row_type, content)
    found = [json.loads(text) for text in json_documents(log_columns(row_type, rows)).to_pylist()]
    assert [dict(flattened(document)) for document in found] == [log_document(row_type, values) for values in content]


@pytest.mark.parametrize("row_type", LOGS, ids=lambda row_type: row_type.name)
def test_the_mappings_of_logs_are_of_the_columns(row_type: RowType) -> None:
    """The index template maps exactly the fields that documents of logs have, the time first."""
    columns = list(log_columns(row_type, samples.table(row_type, samples.rows(row_type))))
    assert columns == list(log_fields(row_type))
    assert columns[0] == "@timestamp"


SHARED = ("src_ip", "dst_ip", "dst_port", "protocol", "direction", "action", "rule", "acl_id", "resource_id")
COUNTERS = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")


@given(st.fixed_dictionaries({name: CHANGES[name] for name in ("direction", "action", "rule", "resource_id", *COUNTERS)}))
def test_documents_of_rollups_share_the_fields_of_flows(changes: dict[str, Any]) -> None:
    """What a rollup shares with flows has the same fields, as a metric; everything else has fields of its own."""
    ends = {"src_ip": "10.0.0.4", "dst_ip": "2001:db8::1", "dst_port": 443, "protocol": 6}
    values = samples.row(ROLLUPS, Spot(0, 0, 1), **ends, **changes)
    (document,) = json_documents(ecs_columns_of(ROLLUPS)(samples.table(ROLLUPS, [values]))).to_pylist()
    found = dict(flattened(json.loads(document)))

    flow = ecs_document(row(Spot(0, 0, 0), **{name: values[name] for name in (*SHARED, *COUNTERS)}, mac=None, state=None))
    beginnings = ("source.", "destination.", "network.", "rule.", "cloud.", "event.category", "event.type")
    shared = {name: value for name, value in flattened(flow) if name.startswith(beginnings) and name != "source.port"}
    assert shared == {name: found[name] for name in shared}
    assert found["event.kind"] == "metric"
    own = ("aggregation", "tuples", "peers", "local_ip", "weight")
    assert {name: found.get(f"blobtide.rollup.{name}") for name in own} == {name: values[name] for name in own}
    assert found.keys() <= ecs_fields_of(ROLLUPS).keys()
