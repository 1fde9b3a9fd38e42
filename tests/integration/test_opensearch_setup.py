"""A real OpenSearch, set up by one command for all types of rows; requests are found in it by their correlation id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

import pytest
import urllib3
import yaml
from confluent_kafka import Producer

from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.opensearch import LocalOpenSearch
from services.cli.main import run
from services.parser import main as parser
from services.parser.logs.derived_ids import NAMESPACE
from services.sinks import main as sinks
from services.sinks.frame.contract import Part
from services.sinks.frame.registry import configured_sink
from tests import row_samples
from tests.running import running, until

pytestmark = pytest.mark.opensearch

TEMPLATES = Path(__file__).parents[2] / "deploy" / "opensearch" / "index-templates"
INDEXED = ("flows", "rollups", "application", "http", "proxy", "spans")
TYPES = {
    "flows": {"@timestamp": "date", "source.ip": "ip", "source.bytes": "long", "rule.name": "keyword"},
    "rollups": {"event.start": "date", "source.ip": "ip", "blobtide.rollup.tuples": "long", "blobtide.rollup.weight": "double"},
    "application": {"@timestamp": "date_nanos", "message": "text", "log.level": "keyword", "trace.id": "keyword"},
    "http": {"@timestamp": "date_nanos", "http.response.status_code": "long", "event.duration": "long", "client.ip": "ip"},
    "proxy": {"url.path": "keyword", "blobtide.log.cache_status": "keyword", "http.request.id": "keyword"},
    "spans": {"event.end": "date_nanos", "trace.id": "keyword", "event.duration": "long", "blobtide.span.parent_id": "keyword"},
}
BLOBS = {"proxy": "cp2.P1/logs/proxy", "api": "cp2.P1/logs/api"}
LABELS = {"subscription": "cp2", "environment": "P1"}


class Cluster:
    """The server, and data streams of this test in it."""

    def __init__(self, server: LocalOpenSearch, directory: Path) -> None:
        self.url = server.url
        self.prefix = f"setup-{uuid4().hex[:8]}"
        self.sinks = {
            rows: {"kind": "elasticsearch", "rows": rows, "hosts": [self.url], "data_stream": f"{self.prefix}-{rows}"}
            for rows in INDEXED
        }
        self.config = directory / "config.yaml"
        self.config.write_text(yaml.safe_dump({"sinks": self.sinks}))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return an answer."""
        with urllib3.PoolManager() as http:
            answer = http.request(method, f"{self.url}/{path}", json=body)
            return answer.json()

    def setup(self, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
        """Run the command; return its exit code and what it printed."""
        code = run(["opensearch", "setup", "spans", "--config", str(self.config), *options])
        return code, capsys.readouterr().out

    def documents(self, rows: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the documents of a type that meet a query, in the order of time."""
        self.ask("POST", f"{self.prefix}-{rows}/_refresh")
        asked = {"query": query, "sort": ["@timestamp"], "size": 1_000}
        return [hit["_source"] for hit in self.ask("POST", f"{self.prefix}-{rows}/_search", asked)["hits"]["hits"]]


@pytest.fixture
def cluster(opensearch: LocalOpenSearch, tmp_path: Path) -> Cluster:
    """Return data streams that are not there yet."""
    return Cluster(opensearch, tmp_path)


def test_the_command_shows_installs_and_repairs(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run writes nothing; then everything is installed, once; what was changed by hand is shown, and put right."""
    names = [f"{cluster.prefix}-{rows}" for rows in INDEXED]
    code, shown = cluster.setup(capsys, "--dry-run")
    assert code == 1
    for name in names:
        assert f"+ index template {name} for {name}\n" in shown
        assert f"+ data stream {name}\n" in shown
    assert f"{2 * len(INDEXED)} differences; nothing was written" in shown
    assert cluster.ask("GET", f"_index_template/{cluster.prefix}-*")["index_templates"] == []
    code, shown = cluster.setup(capsys)
    assert (code, f"{2 * len(INDEXED)} changes made" in shown) == (0, True)
    for options in ((), ("--dry-run",)):
        code, shown = cluster.setup(capsys, *options)
        assert (code, shown.splitlines()[-1]) == (0, f"{cluster.url}: everything is as it should be")
    assert {one["name"] for one in cluster.ask("GET", f"_data_stream/{cluster.prefix}-*")["data_streams"]} == set(names)
    path = f"_index_template/{names[-1]}"
    changed = cluster.ask("GET", path)["index_templates"][0]["index_template"]
    changed["template"]["mappings"]["properties"]["trace"]["properties"]["id"] = {"type": "text"}
    changed["template"]["settings"]["index"]["number_of_replicas"] = 0
    del changed["template"]["mappings"]["properties"]["span"]
    changed["data_stream"] = {}
    assert cluster.ask("PUT", path, changed) == {"acknowledged": True}
    code, shown = cluster.setup(capsys, "--dry-run")
    assert code == 1
    assert f"~ index template {names[-1]} for {names[-1]}\n" in shown
    changes = {sign: [line[5:].strip() for line in shown.splitlines() if line.startswith(f"    {sign} ")] for sign in "-+"}
    assert changes["-"] == ['"type": "text"', '"number_of_replicas": "0",']
    assert changes["+"].count('"type": "keyword"') == 2
    assert '"span": {' in changes["+"]
    assert "1 difference;" in shown
    code, shown = cluster.setup(capsys)
    assert (code, "1 change made" in shown, "existing indexes keep their mappings" in shown) == (0, True, True)
    assert cluster.setup(capsys, "--dry-run")[0] == 0


def test_the_templates_on_file_are_accepted(cluster: Cluster) -> None:
    """Each index template in deploy/opensearch, installed by other means, makes the mappings that it has."""
    files = sorted(TEMPLATES.glob("*.json"))
    assert [file.stem for file in files] == sorted(f"blobtide-{rows}" for rows in INDEXED)
    for file in files:
        body = json.loads(file.read_text())
        made = cluster.ask("POST", "_index_template/_simulate", {**body, "priority": 500})["template"]["mappings"]
        assert made["properties"].keys() == body["template"]["mappings"]["properties"].keys()


def test_documents_of_each_type_are_accepted_with_the_right_types(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is a document, none is refused, and fields have the types that queries and charts need."""
    assert cluster.setup(capsys)[0] == 0
    for rows in INDEXED:
        row_type = ROW_TYPES[rows]
        table = row_samples.table(row_type, row_samples.rows(row_type)).unify_dictionaries().combine_chunks()
        sink = configured_sink(cluster.sinks, rows).sink
        sink.open()
        outcome = sink.write([Part(0, row_type, table, (table.num_rows,))])
        sink.close()
        assert (outcome.written, outcome.rejected) == (table.num_rows, ())
        asked = f"{cluster.prefix}-{rows}/_field_caps?fields={','.join(TYPES[rows])}"
        known = cluster.ask("GET", asked)["fields"]
        assert {name: next(iter(known[name])) for name in TYPES[rows]} == TYPES[rows]
        assert len(cluster.documents(rows, {"match_all": {}})) == table.num_rows


@pytest.mark.kafka
def test_a_request_is_found_in_all_services_once_also_after_a_replay(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], kafka_settings: KafkaSettings, topics: TopicSettings
) -> None:
    """What a proxy and an application log about a request are spans of one trace; read again, they are the same documents."""
    assert cluster.setup(capsys)[0] == 0
    _write_requests(kafka_settings, topics)
    for attempt in ("first", "again"):
        kafka = kafka_settings.model_copy(update={"group_prefix": f"{kafka_settings.group_prefix}-{attempt}"})
        settings = Settings.model_validate({"kafka": kafka, "topics": topics, "sinks": cluster.sinks})
        with running(parser.build(settings)), running(sinks.build(settings, "spans")):
            until(lambda: len(cluster.documents("spans", {"match_all": {}})) == 6, "spans")
    found = cluster.documents("spans", {"term": {"http.request.id": "r-1"}})
    assert [span["service"]["name"] for span in found] == ["proxy", "api"]
    assert {span["trace"]["id"] for span in found} == {uuid5(NAMESPACE, "trace\ncp2\nP1\nr-1").hex}
    assert [span["blobtide"]["span"]["row_type"] for span in found] == ["proxy", "http"]
    assert [span["event"]["duration"] for span in found] == [40_000_000, 30_000_000]
    everything = cluster.documents("spans", {"match_all": {}})
    assert len({span["span"]["id"] for span in everything}) == len(everything) == 6


def _write_requests(kafka: KafkaSettings, topics: TopicSettings) -> None:
    """Write what a proxy and an application log about three requests with an id, and one without."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    ids = [{"requestId": f"r-{number}"} for number in range(3)] + [{}]
    proxied = {"requestFirstLine": "GET /cart HTTP/1.1", "status": "200", "responseTime": "40", "localServerName": "shop"}
    answered = {"requestLine": "GET /cart HTTP/1.1", "statusCode": "200", "processMillis": "30"}
    lines: dict[str, list[dict[str, Any]]] = {
        "proxy": [{"@timestamp": "2026-05-01T12:00:00.040Z", "logs": {**proxied, **one}} for one in ids],
        "api": [{"logs": {"timeMillis": 1777636800035, "contextMap": {**answered, **one}}} for one in ids],
    }
    for service, topic in (("proxy", topics.raw_proxy_logs), ("api", topics.raw_application_logs)):
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines[service])
        labels = json.dumps({"service": service, **LABELS}).encode()
        segment = Segment(BLOBS[service], "g", 0, len(data), 0, SegmentFormat.LINES, data, labels=labels)
        producer.produce(topic, data, BLOBS[service].encode(), headers=list(segment.headers()))
    assert producer.flush(30) == 0
