"""The ``influxdb`` sink: rows as points in InfluxDB 1, 2 or 3, effectively once.

A row becomes a point of one measurement. Text that repeats becomes tags; everything else, addresses and ports included,
becomes fields, so that the number of series stays low. A server keeps one point for each set of tags and time, so a repeated
point replaces itself. Many rows have equal times and tags: the time of a point has nanoseconds that follow from the row's
position, so that one row does not replace another (`points.py` says how, and what remains).

A line that the server refuses is found, reported in the outcome, and does not affect the others. A server that cannot accept
points now, or lacks the database, delays the sink. Promise: effectively once with InfluxDB, which replaces points; at least
once with a server that does not (`overwrites: false`), such as VictoriaMetrics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import HttpClient, Request
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_text import Ints
from libs.common.rows.row_type import RowType
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.in_flight import InFlight
from services.sinks.frame.kind import Promise
from services.sinks.kinds.influxdb.api import Setup, Target, ask
from services.sinks.kinds.influxdb.faults import is_missing
from services.sinks.kinds.influxdb.points import PointMaker, Points, PointShape, some_of
from services.sinks.kinds.influxdb.seen import WrittenBefore
from services.sinks.kinds.influxdb.settings import InfluxSettings
from services.sinks.kinds.influxdb.writer import BodyLimits, LinesWritten, LineWriter

KIND: Final = "influxdb"
_SLICES: Final = 10  # of text, about 6 MB of lines: bounds the memory of a write
_UNTIMELY: Final = "the time of this row is outside the years that InfluxDB has (1677 to 2262)"
_COLLIDING: Final = (
    "the row has measurement, tags and time of another row, which it would replace: make a column a tag that tells them apart"
)


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """Lines for one request: line `i` belongs to row `rows[i]` of the part."""

    part: int
    rows: Ints
    lines: pa.ChunkedArray


class InfluxSink(Sink):
    """Rows as points."""

    def __init__(self, settings: InfluxSettings, row_type: RowType) -> None:
        self._settings = settings
        shape = PointShape.of(
            row_type,
            settings.shape(row_type),
            settings.rows_schema(row_type),
            settings.measurement or row_type.name,
            settings.tags,
        )
        self._maker = PointMaker(row_type, shape)
        self._target = Target.of(settings)
        self._before = WrittenBefore()
        self._client: HttpClient | None = None
        self._in_flight = InFlight(settings.in_flight, "points")

    @property
    def promise(self) -> Promise:
        """A repeated point replaces itself, if the server replaces points."""
        return Promise.EFFECTIVELY_ONCE if self._settings.overwrites else Promise.AT_LEAST_ONCE

    def read_files(self) -> None:
        """Read the secrets and check the TLS files."""
        self._settings.cluster(KIND, self._settings.in_flight)

    def setup(self) -> str:
        """Create the database or the bucket, unless it exists."""
        client = HttpClient(self._settings.cluster(KIND, self._settings.in_flight))
        try:
            return Setup(client, self._settings).run()
        finally:
            client.close()

    def open(self) -> None:
        """Check by a write without points that the server lets us write there."""
        self.close()
        self._client = HttpClient.checked(self._settings.cluster(KIND, self._settings.in_flight), self._check)
        self._in_flight.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Write a point for every row."""
        done = LinesWritten()
        rejected: list[RejectedRow] = []
        points = [self._maker.points(part.rows) for part in parts]
        for number, made in enumerate(points):
            rejected += [RejectedRow(number, row, ErrorCode.REFUSED, _UNTIMELY) for row in made.untimely.tolist()]
            rejected += [RejectedRow(number, row, ErrorCode.REFUSED, _COLLIDING) for row in made.colliding.tolist()]
        writer = self._writer()
        for body, result in self._in_flight.results(self._bodies(points, writer), lambda one: writer.write(one.lines)):
            done.add(result)
            refused = (*result.refused, *result.unclear)
            rejected += [RejectedRow(body.part, int(body.rows[r.line]), r.code, r.reason) for r in refused]
        if self._settings.dead_letter_limit < 1:
            _refuse_to_judge(done)
        before = self._count_before(points, rejected)
        total = sum(part.rows.num_rows for part in parts)
        return Outcome(total - before - len(rejected), before, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for responses."""
        self._in_flight.beat = beat

    def release(self, shards: Collection[int]) -> None:
        """Forget what was written: other processes write these shards now."""
        del shards
        self._before.forget()

    def close(self) -> None:
        """Close connections; idempotent."""
        self._in_flight.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _check(self, client: HttpClient) -> None:
        answer = ask(client, Request("POST", self._target.path, b""))
        asked = ", ".join(self._settings.hosts)
        match answer.status:
            # An empty request is a mistake to some servers, found after the sign-in.
            case HTTPStatus.OK | HTTPStatus.NO_CONTENT | HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
                pass
            case HTTPStatus.NOT_FOUND if is_missing(answer):
                raise ConfigError(
                    f"influxdb has no {self._target.name} in which this user may write: run `blobtide sink-setup`"
                )
            case status:
                raise ServerUnreachable(f"{asked} answered {status} to a write; is this InfluxDB, and is api right?")

    @staticmethod
    def _bodies(points: Sequence[Points], writer: LineWriter) -> Iterator[_Body]:
        """Yield the lines of all parts, a bounded number at a time."""
        for number, made in enumerate(points):
            slices, start = made.lines(), 0
            while some := list(islice(slices, _SLICES)):
                lines = pa.chunked_array(some)
                for first, body in writer.bodies(lines):
                    yield _Body(number, made.rows[start + first : start + first + len(body)], body)
                start += len(lines)

    def _writer(self) -> LineWriter:
        if self._client is None:
            raise RuntimeError("write before open")
        limits = BodyLimits(self._settings.lines, self._settings.body_bytes)
        return LineWriter(self._client, self._target.path, limits)

    def _count_before(self, points: Sequence[Points], rejected: Sequence[RejectedRow]) -> int:
        """Return how many of the rows that are there now had been written before."""
        count = 0
        for number, made in enumerate(points):
            identities = made.identities
            if bad := [row.row for row in rejected if row.part == number]:
                identities = some_of(identities, np.flatnonzero(~np.isin(made.rows, bad)))
            count += self._before.count(identities)
        return count


def _refuse_to_judge(done: LinesWritten) -> None:
    """Blame the server for refusals of unknown fault, unless it accepted other points. Raises `Retry`."""
    if done.unclear and not (done.written or done.refused):
        raise Retry(
            f"every point is refused, so the database is assumed to be at fault: {done.unclear[0].reason}; dead_letter_limit: 1"
            " would dead-letter them",
            after=5.0,
            kind="refused",
        )
