"""The elasticsearch sink against a real OpenSearch whose operator has set something up wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from libs.common.errors import Retry
from libs.common.rows.types.flows import FLOWS
from libs.local.opensearch import LocalOpenSearch
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.elasticsearch.sink import ElasticsearchSettings, ElasticsearchSink
from tests.flows import Spot, row, rows
from tests.flows import part as flow_part

pytestmark = pytest.mark.opensearch
ROWS = rows(blobs=2, records=2, tuples=3)  # 12, all of one day
DAY = "2026.05.01"


class Index:
    """One index name of a cluster, and requests about it."""

    def __init__(self, server: LocalOpenSearch) -> None:
        self.server = server
        self.prefix = f"faults-{uuid4().hex}"
        self.name = f"{self.prefix}-{DAY}"
        self.pipeline = f"/_ingest/pipeline/{self.prefix}"

    def ask(self, method: str, path: str, body: Any = None) -> None:
        """Send a request that must succeed."""
        with urllib3.PoolManager() as http:
            answer = http.request(method, f"{self.server.url}{path}", json=body)
        assert answer.status == HTTPStatus.OK, answer.data

    def sink(self) -> ElasticsearchSink:
        """Return an open sink that writes to it."""
        settings = ElasticsearchSettings(hosts=(self.server.url,), index_prefix=self.prefix, require_template=False)
        sink = ElasticsearchSink(settings, FLOWS, lambda _: None)
        sink.open()
        return sink


@pytest.fixture
def index(opensearch: LocalOpenSearch) -> Iterator[Index]:
    """Give a name that no index has."""
    made = Index(opensearch)
    yield made
    with urllib3.PoolManager() as http:
        http.request("DELETE", f"{opensearch.url}/{made.prefix}-*")


def written(index: Index) -> Outcome:
    """Write all rows."""
    sink = index.sink()
    try:
        return sink.write([flow_part(0, ROWS)])
    finally:
        sink.close()


def check_waits(index: Index, said: str) -> None:
    """Expect that rows wait, with a reason that says why."""
    with pytest.raises(Retry, match=re.escape(said)):
        written(index)


def test_a_pipeline_that_does_not_exist_is_waited_for(index: Index) -> None:
    """An index whose default pipeline is missing takes no row and costs none; once the pipeline is there all are written."""
    index.ask("PUT", f"/{index.name}", {"settings": {"index.default_pipeline": index.prefix}})
    check_waits(index, f"illegal_argument_exception: pipeline with id [{index.prefix}] does not exist")
    index.ask("PUT", index.pipeline, {"processors": []})
    assert written(index) == Outcome(12)


def test_an_alias_without_a_write_index_is_waited_for(index: Index) -> None:
    """Rows wait while the name that they are written to is an alias of several indexes and none is for writing."""
    for number in (1, 2):
        index.ask("PUT", f"/{index.prefix}-part-{number}", {"aliases": {index.name: {}}})
    check_waits(index, f"no write index is defined for alias [{index.name}]")
    index.ask(
        "POST",
        "/_aliases",
        {"actions": [{"add": {"index": f"{index.prefix}-part-1", "alias": index.name, "is_write_index": True}}]},
    )
    assert written(index) == Outcome(12)


def test_a_closed_index_is_waited_for(index: Index) -> None:
    """Rows wait while their index is closed."""
    index.ask("PUT", f"/{index.name}")
    index.ask("POST", f"/{index.name}/_close")
    check_waits(index, "index_closed_exception")
    index.ask("POST", f"/{index.name}/_open")
    assert written(index) == Outcome(12)


def test_a_name_of_a_field_that_a_strict_mapping_lacks_is_the_documents(index: Index) -> None:
    """Of documents that do not fit a mapping each is named, with the type of the error."""
    index.ask("PUT", f"/{index.name}", {"mappings": {"dynamic": "strict", "properties": {"@timestamp": {"type": "date"}}}})
    outcome = written(index)
    assert len(outcome.rejected) == len(ROWS)
    assert "strict_dynamic_mapping_exception" in outcome.rejected[0].reason


def test_a_word_that_is_too_long_for_the_index_is_the_documents(index: Index) -> None:
    """A row with a term beyond what an index takes is refused by name, and its neighbours are written."""
    index.ask("PUT", f"/{index.name}", {"mappings": {"properties": {"rule": {"properties": {"name": {"type": "keyword"}}}}}})
    sink = index.sink()
    try:
        outcome = sink.write([flow_part(0, [*ROWS, row(Spot(1, 9, 0), rule="x" * 40_000)])])
    finally:
        sink.close()
    assert [bad.row for bad in outcome.rejected] == [len(ROWS)]
    assert outcome.written == len(ROWS)
