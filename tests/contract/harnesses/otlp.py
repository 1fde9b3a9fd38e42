"""The otlp sink's destination: a real OTLP/HTTP receiver that decodes with OpenTelemetry's own classes and keeps records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer
from tests.flows import Spot
from tests.otlp_records import expected_record, records_of
from tests.receiver import LocalReceiver
from tests.row_samples import row, text_column

MODES = ("partial", "refusing")
WITHOUT_TLS = {"hosts": ["http://a:4318"], "bearer_token": "t"}
MARKS = ()
_BAD = "no receiver takes this"


class OtlpHarness(Harness):
    """Log records; the mode says how the receiver refuses a bad one: in a partial success, or with its whole request."""

    def __init__(self, case: Case, server: LocalReceiver) -> None:
        super().__init__(case)
        self.server = server
        self.place = server.place()
        self._set_rules()

    def options(self) -> dict[str, Any]:
        """Requests so small that a message makes several."""
        compression = "gzip" if self.case.mode == "partial" else "none"
        place = {"hosts": [self.server.url], "path": f"{self.place.path}/v1/logs", "timeout_seconds": 5}
        return {**place, "body_rows": 4, "compression": compression}

    def read(self) -> Content:
        """Return the records by their uid. One that came twice says the same."""
        content: Content = {}
        for request in self.place.kept():
            assert request.headers["content-type"] == "application/x-protobuf"
            for record in records_of(request.body):
                assert content.setdefault(record["attributes"]["log.record.uid"], record) == record
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row as a record."""
        records = [expected_record(self.case.row_type, one) for one in rows]
        return {record["attributes"]["log.record.uid"]: record for record in records}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server; a new one has to be told its rules."""
        with killed(self.server):
            yield
        self._set_rules()

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Refuse every request as if its content were bad."""
        self.place.rules(always=400)
        try:
            yield
        finally:
            self._set_rules()

    def refused(self) -> Row:
        """A row with a text that the receiver does not like."""
        return row(self.case.row_type, Spot(1, 0, 90), **{text_column(self.case.row_type): _BAD})

    def _set_rules(self) -> None:
        self.place.rules(**{"partial_text": _BAD} if self.case.mode == "partial" else {"bad_text": _BAD, "bad_status": 400})


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an unused path."""
    return OtlpHarness(case, request.getfixturevalue("receiver"))


def _export(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    from opentelemetry._logs import LogRecord
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult

    class Counting(OTLPLogExporter):
        exported = 0

        def export(self, batch: Any) -> Any:
            result = super().export(batch)
            self.exported += len(batch) if result is LogRecordExportResult.SUCCESS else 0
            return result

    exporter = Counting(f"{options['hosts'][0]}{options['path']}", compression=Compression.Gzip)
    provider = LoggerProvider()
    # What does not fit into the queue would be dropped.
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=1_000_000, max_export_batch_size=512))
    logger = provider.get_logger("peer")
    for values in rows:
        logger.emit(LogRecord(timestamp=_nanoseconds(values["time"]), attributes=values, event_name="flow"))
    provider.shutdown()
    return exporter.exported


def _nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000) * 1_000_000


BENCHMARK = Benchmark(
    "requests answered, offsets committed",
    own="path",  # a directory is one that the receiver does not keep
    is_directory=True,
    server=LocalReceiver,
    options=lambda server: {"hosts": [server.url]},
    peers=(Peer("OpenTelemetry SDK", _export, rows=20_000),),
)
