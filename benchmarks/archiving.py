"""Snapshots into zip files: the archive sink's own steps, and the way of the Network State Recorder, whose files it writes.

Both get the answers of two sources as bytes, one after the other, and end with a zip for each source. What the archive promises
besides (a synced spool and positions, and zips that are synced, read again and compared) is in its figures. The other decodes
each answer, since that is what its HTTP client gives it, and encodes it anew for its file.
"""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pyarrow as pa

from benchmarks.errors import BenchmarkFailed
from benchmarks.measured import Measured, Sample, Work
from libs.common.rows.types.snapshots import SNAPSHOTS
from services.sinks.frame.contract import Part
from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink

ARCHIVE: Final = "snapshots to zips"
JSON: Final = "json.dumps, zipfile"
_SOURCES: Final = ("flowinfo", "graphinfo")
_FLOWS: Final = 40  # in an answer: 12 KB
_BATCH: Final = 100  # snapshots of a write, as a poll of Kafka brings them when there are many
_LEVEL: Final = 4
_START_MS: Final = 1_777_636_800_000


def measure(snapshots: int, directory: Path, repeats: int) -> Iterator[Measured]:
    """Archive so many answers of each source."""
    answers = [_answer(number) for number in range(snapshots)]
    work = Work(len(_SOURCES) * snapshots, len(_SOURCES) * sum(map(len, answers)))
    for stage, archive, ends, against in (
        (ARCHIVE, _by_sink, "zips synced, read again, compared", JSON),
        (JSON, _by_json, "zips written", None),
    ):
        samples = tuple(_timed(archive, answers, directory) for _ in range(repeats))
        yield Measured(stage, f"{_FLOWS} flows", work, samples, ends, against)


def _answer(number: int) -> bytes:
    """Return what NDTwin's kernel might answer: flows whose numbers change from time to time."""
    flows = [
        {
            "src_ip": 16_885_952 + flow,
            "dst_ip": 33_663_168 + flow * 7,
            "src_port": 50_000 + flow,
            "dst_port": 443,
            "protocol_id": 6,
            "estimated_flow_sending_rate_bps_in_the_last_sec": (number * 7_919 + flow * 104_729) % 10_000_000,
            "estimated_packet_rate_in_the_last_sec": (number * 31 + flow) % 1_000,
            "first_sampled_time": "2026-05-01 12:00:00",
            "latest_sampled_time": f"2026-05-01 12:{number // 60 % 60:02}:{number % 60:02}",
        }
        for flow in range(_FLOWS)
    ]
    return json.dumps(flows).encode()


def _timed(archive: Callable[[list[bytes], Path], None], answers: list[bytes], directory: Path) -> Sample:
    with tempfile.TemporaryDirectory(dir=directory) as name:
        cpu, wall = time.process_time(), time.perf_counter()
        archive(answers, Path(name))
        sample = Sample(time.process_time() - cpu, time.perf_counter() - wall)
        found = sum(_lines(file) for file in Path(name).glob("*.zip"))
    if found != len(_SOURCES) * len(answers):
        raise BenchmarkFailed(f"the zips hold {found} snapshots, not {len(_SOURCES) * len(answers)}")
    return sample


def _lines(file: Path) -> int:
    with zipfile.ZipFile(file) as archive:
        return sum(archive.read(member).count(b"\n") for member in archive.infolist())


def _by_sink(answers: list[bytes], directory: Path) -> None:
    sink = ArchiveSink(ArchiveSettings(directory=directory, rotate_bytes=1_073_741_824))
    sink.open()
    for begin in range(0, len(answers), _BATCH):
        tables = [_rows(source, begin, answers[begin : begin + _BATCH]) for source in _SOURCES]
        rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        sink.write([Part(0, SNAPSHOTS, rows, (rows.num_rows,))])
    sink.close()


def _rows(source: str, begin: int, answers: list[bytes]) -> pa.Table:
    """Return rows as recorders make them, but for what is the same in all."""
    numbers = range(begin, begin + len(answers))
    count = len(answers)
    columns = {
        "time": pa.array([_START_MS + 1_000 * number for number in numbers], SNAPSHOTS.schema.field("time").type),
        "record": pa.array(map(_record, numbers, answers)).cast(pa.string()),
        "http_response_status_code": pa.array([200] * count, pa.uint16()),
        "response_time": pa.array([8_000] * count),
        "answer_size": pa.array(map(len, answers)),
        "answer_hash": pa.array(["0" * 64] * count),
        "sequence": pa.array(numbers),
        "item": pa.array([0] * count, pa.int32()),
    }
    same = {"source": source, "url": "http://127.0.0.1:8000/", "run": "1"}
    columns |= {name: pa.array([value] * count).dictionary_encode() for name, value in same.items()}
    return pa.table([columns[name] for name in SNAPSHOTS.names], schema=SNAPSHOTS.schema)


def _record(number: int, answer: bytes) -> bytes:
    return b'{"timestamp":%d,"flowinfo":%s}' % (_START_MS + 1_000 * number, answer)


def _by_json(answers: list[bytes], directory: Path) -> None:
    paths = [directory / f"2026_05_01_12-00-00_{source}.json" for source in _SOURCES]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("w")) for path in paths]
        for number, answer in enumerate(answers):
            for file in files:
                record = {"timestamp": _START_MS + 1_000 * number, "flowinfo": json.loads(answer)}
                file.write(json.dumps(record) + "\n")
    for path in paths:
        target = path.with_name(f"{path.stem}_json.zip")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            archive.write(path, path.name)
        path.unlink()
