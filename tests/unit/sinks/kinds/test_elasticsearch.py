"""Parts of the elasticsearch sink that need no server."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.elasticsearch.bulk_reply import DocumentResult, ItemResult, read_reply
from services.sinks.kinds.elasticsearch.index import DailyIndexes, DataStream, ecs_fields, template
from services.sinks.kinds.elasticsearch.sink import ElasticsearchSettings, ElasticsearchSink
from tests.clock import Clock
from tests.flows import START_MS

DAY_MS = 86_400_000


@given(st.binary(max_size=60) | st.sampled_from([b'{"errors":false,"items":[{"create":{"status":201}}]}', b'{"errors":false}']))
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    """Whatever a server answers, the result is one verdict a document or a CodecError."""
    with suppress(CodecError):
        assert [item.verdict for item in read_reply(body, 1)] == [DocumentResult.WRITTEN]


@pytest.mark.parametrize(
    ("status", "kind", "verdict"),
    [
        (201, "", DocumentResult.WRITTEN),
        (409, "version_conflict_engine_exception", DocumentResult.ALREADY_THERE),
        (400, "mapper_parsing_exception", DocumentResult.REFUSED),
        (400, "strict_dynamic_mapping_exception", DocumentResult.REFUSED),
        (400, "illegal_argument_exception", DocumentResult.UNCLEAR),
        (400, "never_heard_of_exception", DocumentResult.UNCLEAR),
        (400, "", DocumentResult.UNCLEAR),
        (400, "script_exception", DocumentResult.AGAIN),
        (413, "", DocumentResult.REFUSED),
        (500, "never_heard_of_exception", DocumentResult.AGAIN),
    ],
)
def test_verdicts(status: int, kind: str, verdict: DocumentResult) -> None:
    """Each status of an item means what the module's table says, and the text of an error that may quote a row is not shown."""
    item = read_item(status, kind, "secret")
    assert item.verdict is verdict
    assert "secret" not in item.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "validation_exception"),
        (400, "invalid_index_name_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (429, "circuit_breaking_exception"),
        (503, "unavailable_shards_exception"),
    ],
)
def test_what_is_wrong_with_the_cluster_is_said_in_its_words(status: int, kind: str) -> None:
    """An error that no document is at fault for comes again, with its type and the beginning of its text."""
    item = read_item(status, kind, "index [x] is\nclosed " + 500 * "!")
    assert (item.verdict, item.kind) == (DocumentResult.AGAIN, kind)
    assert item.reason.startswith(f"status {status}, {kind}: index [x] is closed !!!")
    assert len(item.reason) < 300


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("pipeline with id [enrich] does not exist", DocumentResult.AGAIN),
        ("no write index is defined for alias [flows]. The write index may be explicitly disabled", DocumentResult.AGAIN),
        ("Number of documents in the index can't exceed [2147483519]", DocumentResult.AGAIN),
        ("Limit of total fields [1000] has been exceeded", DocumentResult.AGAIN),
        ("only write ops with an op_type of create are allowed in data streams", DocumentResult.AGAIN),
        (
            'Document contains at least one immense term in field="rule" (whose UTF8 encoding is longer than 32766)',
            DocumentResult.REFUSED,
        ),
        ("mapper [rule.name] cannot be changed from type [keyword] to [long]", DocumentResult.REFUSED),
        ("'999.1.2.3' is not an IP string literal.", DocumentResult.REFUSED),
        ("something else", DocumentResult.UNCLEAR),
    ],
)
def test_an_illegal_argument_is_told_by_its_text(reason: str, verdict: DocumentResult) -> None:
    """The type that stands for anything is the document's or the cluster's fault by what it says, else unclear."""
    item = read_item(400, "illegal_argument_exception", reason)
    assert (item.verdict, item.kind) == (verdict, "illegal_argument_exception")


def read_item(status: int, kind: str, reason: str) -> ItemResult:
    """Read an answer about one document."""
    error = {"type": kind, "reason": reason}
    [item] = read_reply(json.dumps({"errors": True, "items": [{"create": {"status": status, "error": error}}]}).encode(), 1)
    return item


def test_the_index_is_of_the_flows_day_within_bounds() -> None:
    """A flow goes to the index of its own UTC day; days before and after the window have none."""
    daily = DailyIndexes("p", past_days=3, clock=Clock(START_MS / 1_000))
    days = [-4, -3, 0, 2, 3]
    times = pa.array([START_MS + day * DAY_MS for day in days], pa.timestamp("ms", tz="UTC"))
    assert daily.names(times).to_pylist() == [None, "p-2026.04.28", "p-2026.05.01", "p-2026.05.03", None]


def test_templates() -> None:
    """The template covers the daily indexes with ECS types, and makes a data stream where one is configured."""
    daily = template(DailyIndexes("p", 1), ecs_fields(FLOWS), "Flows")
    assert daily["index_patterns"] == ["p-*"]
    properties = daily["template"]["mappings"]["properties"]
    assert properties["source"]["properties"]["ip"] == {"type": "ip"}
    assert properties["cloud"]["properties"]["account"]["properties"]["id"] == {"type": "keyword"}
    assert "data_stream" not in daily
    stream = template(DataStream("s"), ecs_fields(FLOWS), "Flows")
    assert stream["index_patterns"] == ["s"]
    assert stream["data_stream"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": ["localhost:9200"]}, "http"),
        ({"hosts": ["http://u:p@localhost"]}, "not in the address"),
        ({"index_prefix": "-flows"}, "index_prefix"),
        ({"index_prefix": "Flows"}, "index_prefix"),
        ({"index_prefix": "a/b"}, "index_prefix"),
        ({"index_prefix": "a,b*"}, "index_prefix"),
        ({"password": "p"}, "must be given together"),
        ({"username": "u", "password": "p", "api_key": "k"}, "one way to sign in"),
        ({"api_key": "a", "bearer_token": "b"}, "one way to sign in"),
        ({"bodybytes": 1}, "did you mean body_bytes"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    """A wrong option is refused by name before anything is sent."""
    with pytest.raises(Exception, match=message) as raised:
        configured_sink({"elasticsearch": options}, "elasticsearch")
    assert type(raised.value).__name__ == "ConfigError"


def test_defaults_are_valid() -> None:
    """The sink can be built without any option, and closed without having been opened."""
    ElasticsearchSink(ElasticsearchSettings(), FLOWS).close()
