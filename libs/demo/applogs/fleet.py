"""A fleet of pods whose logs grow minute by minute. Pure: no I/O, no clock.

A spec always gives the same lines: those of a minute depend on the spec and the minute's number. A blob has the lines of one
container on one day (UTC). It is an append blob, as log collectors such as Fluent Bit write it: each minute appends one
complete gzip member. Of some pods, members end in the middle of a line; of some, the container is restarted now and then, and
its lines continue in another blob. The first containers begin with the fleet: a fleet that begins at another minute has others,
in other blobs, so that neither finds a blob that begins with lines that it does not know.

::

    logs = collect(Fleet(LogSpec(pods=16, minutes=180)).appends())
    logs.blobs[BlobId(...)]   # final bytes
    logs.truth                # every line with its position, as a table
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, Final

from libs.common.messages.blobs import BlobId
from libs.demo.applogs.http_lines import access_line, request_line
from libs.demo.applogs.pods import LineShape, Pod, container_id, make_pods
from libs.demo.applogs.program_lines import container_line, log4j2_line, stack_trace
from libs.demo.applogs.scene import NS_PER_SECOND, LogLine, Scene
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import LOG_TRUTH_SCHEMA, SkipReason, truth_batch
from libs.demo.commits import Logs
from libs.demo.truth import RowRange, table_of

_NS_PER_MINUTE: Final = 60 * NS_PER_SECOND
_WRITTEN_AFTER: Final = timedelta(seconds=62)
_COMPRESSION: Final = 6


@dataclass(frozen=True, slots=True)
class MemberAppend:
    """One Append Block: a complete gzip member."""

    source: int  # number of the pod
    blob: BlobId
    due: datetime  # when the collector would make it
    offset: int  # size of the blob before
    data: bytes
    rows: RowRange  # lines that end in the member, in `truth.LOG_TRUTH_SCHEMA`

    @property
    def size(self) -> int:
        """Bytes to upload."""
        return len(self.data)


@dataclass(slots=True)
class _OpenBlob:
    """How far the blob of a pod has grown."""

    id: BlobId
    size: int = 0  # compressed
    decoded: int = 0  # offset of the next line
    row: int = 0  # offset of the first line of the last row
    begun: bytes = b""  # the beginning of the next line, if the last member ended in it
    rest: tuple[dict[str, Any], ...] = ()  # the truth about that line


@dataclass(frozen=True, slots=True)
class _Written:
    """What one pod writes in one minute."""

    pod: Pod
    blob: _OpenBlob
    member: bytes
    truths: tuple[dict[str, Any], ...]


class Fleet:
    """The logs described by a spec."""

    def __init__(self, spec: LogSpec) -> None:
        self.spec = spec
        self._pods = make_pods(spec)

    def appends(self) -> Iterator[MemberAppend]:
        """Yield all appends minute by minute, and per blob in order of its growth.

        Endless if the spec is. Every call starts from the beginning.
        """
        spec, blobs = self.spec, dict[int, _OpenBlob]()
        for index in count() if spec.minutes is None else range(spec.minutes):
            minute = spec.first_minute + index
            is_last = index + 1 == spec.minutes
            yield from _appends(minute, [self._write(pod, minute, blobs, is_last=is_last) for pod in self._pods])

    def _write(self, pod: Pod, minute: int, blobs: dict[int, _OpenBlob], *, is_last: bool) -> _Written:
        blob_id = pod.blob(self.spec, minute)
        if pod.number not in blobs or blobs[pod.number].id != blob_id:
            blobs[pod.number] = _OpenBlob(blob_id)
        blob = blobs[pod.number]
        is_end = is_last or pod.blob(self.spec, minute + 1) != blob_id
        lines = list(_lines(self.spec, pod, minute))
        truths = [*blob.rest, *_placed(blob, pod, lines)]
        text = blob.begun + b"".join(line.data for line in lines)
        blob.begun, blob.rest = b"", ()
        if pod.splits_lines and not is_end and lines:
            cut = len(text) - 1 - len(lines[-1].data) // 2
            blob.begun, text = text[cut:], text[:cut]
            blob.rest, truths = (truths[-1],), truths[:-1]
        member = gzip.compress(text, _COMPRESSION, mtime=minute * 60) if text else b""
        return _Written(pod, blob, member, tuple(truths))


def collect(appends: Iterable[MemberAppend]) -> Logs:
    """Return the final bytes of all blobs and the truth about all their lines, per blob in order."""
    blobs: dict[BlobId, list[bytes]] = {}
    rows = []
    for append in appends:
        blobs.setdefault(append.blob, []).append(append.data)
        rows.append(append.rows)
    return Logs({blob: b"".join(members) for blob, members in blobs.items()}, table_of(rows, LOG_TRUTH_SCHEMA))


def _appends(minute: int, written: list[_Written]) -> Iterator[MemberAppend]:
    """Yield what all pods write in a minute, with their rows as parts of one batch."""
    batch = truth_batch([truth for each in written for truth in each.truths])
    due, start = datetime.fromtimestamp(minute * 60, UTC) + _WRITTEN_AFTER, 0
    for each in written:
        stop = start + len(each.truths)
        rows = RowRange(batch, start, stop)
        if each.member:
            yield MemberAppend(each.pod.number, each.blob.id, due, each.blob.size, each.member, rows)
        each.blob.size += len(each.member)
        start = stop


def _lines(spec: LogSpec, pod: Pod, minute: int) -> Iterator[LogLine]:
    dice = Random(f"{spec.seed}/{pod.number}/{minute}")
    whole, fraction = divmod(spec.lines_per_minute, 1.0)
    times = sorted(dice.randrange(_NS_PER_MINUTE) for _ in range(int(whole) + (dice.random() < fraction)))
    container = container_id(pod, pod.container_since(minute, spec.first_minute))
    shapes, weights = zip(*pod.service.mix, strict=True)
    for time in times:
        (shape,) = dice.choices(shapes, weights)
        yield from _event(shape, Scene.at(pod, container, dice, minute * _NS_PER_MINUTE + time))


def _event(shape: LineShape, scene: Scene) -> list[LogLine]:
    match shape:
        case LineShape.ACCESS:
            return [access_line(scene)]
        case LineShape.REQUEST:
            return [request_line(scene)]
        case LineShape.LOG4J2:
            return [log4j2_line(scene)]
        case LineShape.CONTAINER:
            return [container_line(scene)]
        case LineShape.TRACE:
            return stack_trace(scene)
        case LineShape.BLANK:
            return [LogLine(b"\n", shape, {"skipped": SkipReason.BLANK_LINE})]


def _placed(blob: _OpenBlob, pod: Pod, lines: Iterable[LogLine]) -> Iterator[dict[str, Any]]:
    """Yield the truth about lines with their positions in the decoded text, which the blob is moved by."""
    source = {
        "blob": str(blob.id),
        "service": pod.service.name or None,
        "namespace": pod.namespace,
        "pod": pod.name,
        "container": pod.service.container,
        "container_id": blob.id.name.rpartition("-")[2].removesuffix(".gz"),
    }
    for line in lines:
        blob.row = blob.row if line.continues else blob.decoded
        place = {"line_offset": blob.decoded, "line_length": len(line.data), "shape": line.shape}
        yield {**source, **place, **_fields(line, blob.row)}
        blob.decoded += len(line.data)


def _fields(line: LogLine, row: int) -> Mapping[str, Any]:
    """Return what a line says; of one that becomes no row, why, and when it was collected."""
    if "skipped" in line.truth:
        return {name: line.truth.get(name) for name in ("skipped", "observed_time")}
    return {"row_offset": row, **line.truth}
