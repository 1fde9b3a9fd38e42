"""The otlp sink at the OpenTelemetry Collector's own receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from libs.common.errors import ConfigError, Retry
from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.flows import FLOWS
from libs.local.otelcol import LocalCollector
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.registry import configured_sink
from tests.certificates import server_tls
from tests.fixtures.servers import serving
from tests.flows import Spot
from tests.otlp_records import expected_record, records_of
from tests.row_samples import row, rows, table

pytestmark = pytest.mark.otelcol
CONTENT = rows(FLOWS)


@contextmanager
def sink_of(server: LocalCollector, row_type: RowType = FLOWS, **options: Any) -> Iterator[Sink]:
    """Open a sink."""
    own = {"hosts": [server.url], "rows": row_type.name, "timeout_seconds": 10, **options}
    sink = configured_sink({"otlp": own}, "otlp").sink
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def part(content: Sequence[dict[str, Any]], row_type: RowType = FLOWS) -> Part:
    """Return rows as a part of one message."""
    return Part(0, row_type, table(row_type, content).unify_dictionaries().combine_chunks(), (len(content),))


def records(server: LocalCollector, before: int = 0) -> list[dict[str, Any]]:
    """Return the records of all requests but the first ones, as the collector understood them."""
    found = [Parse(json.dumps(one), ExportLogsServiceRequest()) for one in server.requests()[before:]]
    return [record for one in found for record in records_of(one.SerializeToString())]


def uid(record: dict[str, Any]) -> str:
    """Return what identifies a record."""
    found: str = record["attributes"]["log.record.uid"]
    return found


@pytest.mark.parametrize("row_type", ROW_TYPES.values(), ids=ROW_TYPES)
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_the_collector_reads_every_value(collector: LocalCollector, row_type: RowType, compression: str) -> None:
    """What the collector passes on is each row, with all that it states."""
    before, content = len(collector.requests()), rows(row_type)
    with sink_of(collector, row_type, compression=compression) as sink:
        assert sink.write([part(content, row_type)]) == Outcome(len(content))
    assert records(collector, before) == [expected_record(row_type, values) for values in content]


def test_records_that_a_component_refuses_are_found(collector: LocalCollector) -> None:
    """The collector answers that a request is of no use; the record at fault becomes a dead letter, the others are taken."""
    before = len(collector.requests())
    collector.refuse("300.1.2.3")
    with sink_of(collector) as sink:
        outcome = sink.write([part([*CONTENT[:9], row(FLOWS, Spot(0, 90, 0), src_ip="300.1.2.3"), *CONTENT[9:]])])
    assert [(one.part, one.row) for one in outcome.rejected] == [(0, 9)]
    assert "refuses the records" in outcome.rejected[0].reason
    assert outcome.written == len(CONTENT)
    assert sorted(records(collector, before), key=uid) == sorted((expected_record(FLOWS, one) for one in CONTENT), key=uid)


def test_a_busy_collector_is_waited_for(collector: LocalCollector) -> None:
    """An answer that is retryable costs no record."""
    with sink_of(collector) as sink:
        collector.be_busy(busy=True)
        try:
            with pytest.raises(Retry, match="503"):
                sink.write([part(CONTENT)])
        finally:
            collector.be_busy(busy=False)
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))


def test_a_collector_that_was_killed_is_written_to_again(collector: LocalCollector) -> None:
    """While it is away rows wait; then they are there."""
    before = len(collector.requests())
    with sink_of(collector) as sink:
        collector.kill()
        with pytest.raises(Retry):
            sink.write([part(CONTENT)])
        collector.start()
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert records(collector, before) == [expected_record(FLOWS, values) for values in CONTENT]


def test_a_collector_over_tls(tmp_path: Path) -> None:
    """Its certificate has to be one of the authority that is configured."""
    server = LocalCollector(tmp_path / "collector", tls=server_tls(tmp_path))
    with serving(server):
        with pytest.raises(ConfigError, match="certificate is not trusted"), sink_of(server):
            pass
        with sink_of(server, ca_file=tmp_path / "ca.pem") as sink:
            assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
        assert len(records(server)) == len(CONTENT)
