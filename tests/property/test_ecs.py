"""Documents and ids made from columns are those made row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.ecs import FIELDS, ecs_columns
from libs.common.rows.formats.json import json_documents
from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from tests.documents import document_id, ecs_document
from tests.flows import Spot, row, table

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
