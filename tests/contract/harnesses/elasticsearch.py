"""The elasticsearch sink's destination: daily indexes under a prefix of their own in a real OpenSearch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from libs.local.opensearch import LocalOpenSearch
from tests.contract.harness import Content, Harness, Row
from tests.documents import document_id, ecs_document
from tests.flows import Spot, row

MARKS = pytest.mark.opensearch


class ElasticsearchHarness(Harness):
    """Documents by id."""

    kind = "elasticsearch"

    def __init__(self, server: LocalOpenSearch) -> None:
        self.server = server
        self.prefix = f"contract-{uuid4().hex}"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Bodies so small that a write makes several."""
        return {"hosts": [self.server.url], "index_prefix": self.prefix, "body_bytes": 100_000}

    def read(self) -> Content:
        """Read all documents of all indexes."""
        with urllib3.PoolManager() as http:
            http.request("POST", f"{self.server.url}/{self.prefix}-*/_refresh")
            found = http.request("GET", f"{self.server.url}/{self.prefix}-*/_search?size=10000").json()
        hits = found["hits"]["hits"]
        content = {hit["_id"]: (hit["_index"].removeprefix(self.prefix), hit["_source"]) for hit in hits}
        assert len(content) == len(hits) == found["hits"]["total"]["value"]
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, in the index of its day."""
        documents = {document_id(values): ecs_document(values) for values in rows}
        return {key: (f"-{found['@timestamp'][:10].replace('-', '.')}", found) for key, found in documents.items()}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server."""
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Block writes to the indexes, as a cluster does whose disks are full."""
        self._block_writes(blocked=True)
        try:
            yield
        finally:
            self._block_writes(blocked=False)

    def _block_writes(self, *, blocked: bool) -> None:
        with urllib3.PoolManager() as http:
            answer = http.request("PUT", f"{self.server.url}/{self.prefix}-*/_settings", json={"index.blocks.write": blocked})
        assert answer.status == HTTPStatus.OK, answer.data

    def refused(self) -> Row:
        """Return a row whose address no index takes."""
        return row(Spot(0, 77, 0), src_ip="300.1.2.3")


def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give an unused prefix."""
    return ElasticsearchHarness(request.getfixturevalue("opensearch"))
