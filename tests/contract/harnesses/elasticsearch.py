"""The elasticsearch sink's destination: indexes under a prefix of their own, or a data stream, in a real OpenSearch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3
import xxhash

from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.types.flows import FLOWS
from libs.local.opensearch import LocalOpenSearch
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer
from tests.documents import ecs_document, nested
from tests.flows import Spot
from tests.log_documents import LOGS, log_document
from tests.row_samples import document, position_of, row, ticks_of

MODES = ("daily", "stream")
WITHOUT_TLS = {"hosts": ["https://a:9200", "http://b:9200"], "api_key": "k"}
MARKS = pytest.mark.opensearch


class ElasticsearchHarness(Harness):
    """Documents by id."""

    def __init__(self, case: Case, server: LocalOpenSearch) -> None:
        super().__init__(case)
        self.server = server
        self.prefix = f"contract-{uuid4().hex}"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Bodies so small that a write makes several."""
        where = {"index_prefix": self.prefix} if self.case.mode == "daily" else {"data_stream": self.prefix}
        return {"hosts": [self.server.url], "body_bytes": 100_000, **where}

    def read(self) -> Content:
        """Read all documents of all indexes."""
        target = f"{self.prefix}-*" if self.case.mode == "daily" else self.prefix
        with urllib3.PoolManager() as http:
            http.request("POST", f"{self.server.url}/{target}/_refresh")
            found = http.request("GET", f"{self.server.url}/{target}/_search?size=10000").json()
        hits = found["hits"]["hits"]
        content = {hit["_id"]: (self._place(hit["_index"]), hit["_source"]) for hit in hits}
        assert len(content) == len(hits) == found["hits"]["total"]["value"]
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, in the index of its day."""
        found = {_id_of(self.case, values): self._document(values) for values in rows}
        return {key: (self._expected_place(one), one) for key, one in found.items()}

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Block writes to the indexes, as a cluster does whose disks are full."""
        self._block_writes(blocked=True)
        try:
            yield
        finally:
            self._block_writes(blocked=False)

    def refused(self) -> Row | None:
        """Return a row whose address no index takes, or whose day has none."""
        if self.case.row_type is FLOWS:
            return row(FLOWS, Spot(0, 77, 0), src_ip="300.1.2.3")
        later = row(self.case.row_type, Spot(0, 77, 0), time=ticks_of(self.case.row_type, 9 * 10**12))  # in 2255
        return later if self.case.mode == "daily" else None

    def _document(self, values: Row) -> dict[str, Any]:
        if self.case.row_type is FLOWS:
            return ecs_document(values)
        if self.case.row_type in LOGS:
            return nested(log_document(self.case.row_type, values))
        flat = document(self.case.row_type, values)
        return {"@timestamp": flat.pop(self.case.row_type.time), **flat}

    def _place(self, index: str) -> str:
        return index.removeprefix(self.prefix) if self.case.mode == "daily" else ""

    def _expected_place(self, found: Row) -> str:
        return f"-{found['@timestamp'][:10].replace('-', '.')}" if self.case.mode == "daily" else ""

    def _block_writes(self, *, blocked: bool) -> None:
        indexes = f"{self.prefix}-*" if self.case.mode == "daily" else f".ds-{self.prefix}-*"
        with urllib3.PoolManager() as http:
            answer = http.request("PUT", f"{self.server.url}/{indexes}/_settings", json={"index.blocks.write": blocked})
        assert answer.status == HTTPStatus.OK, answer.data


def _id_of(case: Case, values: Row) -> str:
    source, generation, offset, index = position_of(case.row_type, values)
    return f"{xxhash.xxh128_hexdigest(f'{source}{chr(0)}{generation}'.encode())}-{offset}-{index}"


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an unused prefix."""
    return ElasticsearchHarness(case, request.getfixturevalue("opensearch"))


def _bulk(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    from opensearchpy import OpenSearch
    from opensearchpy.helpers import streaming_bulk

    prefix = options["index_prefix"]
    actions = (
        {"_op_type": "create", "_index": f"{prefix}-{row['@timestamp'][:10].replace('-', '.')}", "_source": row} for row in rows
    )
    with closing(OpenSearch(options["hosts"], http_compress=True)) as client:
        return sum(1 for done, _ in streaming_bulk(client, actions, chunk_size=2_000) if done)


def _count(server: LocalOpenSearch, options: Options) -> int:
    with urllib3.PoolManager() as http:
        http.request("POST", f"{server.url}/{options['index_prefix']}-*/_refresh")
        return int(http.request("GET", f"{server.url}/{options['index_prefix']}-*/_count").json()["count"])


BENCHMARK = Benchmark(
    "documents answered, offsets committed",
    own="index_prefix",
    server=LocalOpenSearch,
    options=lambda server: {"hosts": [server.url]},
    needs_setup=True,
    count=_count,
    peers=(Peer("streaming_bulk", _bulk, form=RowFormat.ECS),),
)
