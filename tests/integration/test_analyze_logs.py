"""`blobtide analyze-logs` on a real Kafka."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.wire import encode_rows, row_headers
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.cli.main import run

pytestmark = pytest.mark.kafka

T = datetime(2026, 5, 1, 12, tzinfo=UTC)
BATCHES = 40


@pytest.fixture
def config(kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path) -> str:
    """Batches of ten rows, a minute each: application rows, then HTTP rows; one proxy row; and a message that is no batch."""
    records = []
    for minute in range(BATCHES):
        time = T + timedelta(minutes=minute)
        service, environment = ("api", "P1") if minute % 4 else ("jsapps", "P2")
        same = {"time": time, "service": service, "environment": environment}
        if minute < BATCHES // 2:
            rows = [{**same, "severity_number": 17 if n == 0 else 9, "body": f"order {n}"} for n in range(10)]
            records.append(_batch(APPLICATION, topics.application, rows))
        else:
            rows = [{**same, "http_response_status_code": 200 + n % 2, "response_time": 1_000 * (n + 1)} for n in range(10)]
            records.append(_batch(HTTP, topics.http, rows))
    records.append(_batch(PROXY, topics.proxy, [{"time": T, "service": "apache-proxy", "http_response_status_code": 503}]))
    records.append(Outbound(topics.http, b"garbage", b"key"))
    with closing(Publisher(kafka_settings, PublisherSpec("rows"))) as publisher:
        for record in records:  # one after the other, so that their times in Kafka ascend
            assert publisher.publish([record]) == []
    file = tmp_path / "config.yaml"
    kafka = {"bootstrap_servers": kafka_settings.bootstrap_servers, "group_prefix": kafka_settings.group_prefix}
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": topics.model_dump()}))
    return str(file)


def _batch(row_type: RowType, topic: str, rows: list[dict[str, Any]]) -> Outbound:
    needed = {column.name for column in row_type.columns if not column.nullable}
    example = {name: value for name, value in row_type.example.items() if name in needed}
    table = pa.Table.from_pylist([{**example, **row} for row in rows], schema=row_type.schema)
    [batch] = table.combine_chunks().to_batches()
    return Outbound(topic, bytes(encode_rows(row_type, batch)), b"key", row_headers(row_type))


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return what the command finds."""
    capsys.readouterr()
    assert run(["analyze-logs", "--json", *words]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_rows_of_all_topics_are_summed_up(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In numbers, and as tables and charts; a message that is no batch is named and skipped."""
    sums = found(capsys, "--config", config, "--since", "0")
    assert sums["rows"] == {"application": 200, "http": 200, "proxy": 1}
    assert (sums["first"], sums["last"]) == ("2026-05-01T12:00:00Z", "2026-05-01T12:39:00Z")
    assert sum(one["rows"] for one in sums["volume"]) == 401
    levels = {one["service"]: one["levels"] for one in sums["services"] if one["type"] == "application"}
    assert levels == {"api": {"info": 135, "error": 15}, "jsapps": {"info": 45, "error": 5}}
    assert sums["errors"] == [
        {"count": 15, "service": "api", "what": "order #"},
        {"count": 5, "service": "jsapps", "what": "order #"},
        {"count": 1, "service": "apache-proxy", "what": "503 GET /cart/items"},
    ]
    requests = {one["service"]: one for one in sums["requests"]}
    assert requests["api"]["statuses"] == {"200": 75, "201": 75}
    assert requests["api"]["microseconds"]["p50"] == pytest.approx(5_000, rel=0.025)
    assert run(["analyze-logs", "--config", config, "--since", "0", "--top", "1"]) == 0
    printed = capsys.readouterr()
    assert "401 rows (200 application, 200 http, 1 proxy) from 2026-05-01T12:00:00Z" in printed.out
    assert "    15  api      order #" in printed.out
    assert "analyze-logs: " in printed.err
    assert "offset 20: " in printed.err


def test_rows_are_chosen_by_time_and_place(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the time that they state, whatever the message that holds them."""
    between = found(
        capsys, "--config", config, "--since", "2026-05-01T12:05:00Z", "--until", "2026-05-01T12:23:00Z", "--service", "api"
    )
    assert between["rows"] == {"application": 120, "http": 20}
    elsewhere = found(capsys, "--config", config, "--since", "0", "--env", "P2", "--rows", "application")
    assert elsewhere["rows"] == {"application": 50}


def test_the_newest_rows_are_found_however_many_messages_hold_them(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are looked for in as many messages as it takes, or in all there are."""
    assert found(capsys, "--config", config, "--last", "15")["rows"] == {"http": 14, "proxy": 1}
    many = found(capsys, "--config", config, "--last", "225")
    assert many["rows"] == {"application": 24, "http": 200, "proxy": 1}
    assert many["first"] == "2026-05-01T12:00:00Z"  # of the proxy row, which was written last
    assert sum(found(capsys, "--config", config, "--last", "5000")["rows"].values()) == 401
