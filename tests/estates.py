"""Generated flow logs that grow in Azurite while a pipeline runs, and the wait until all of them have arrived."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import SecretStr

from libs.common.azure.retry import RetryPolicy
from libs.common.azure.storage.writer import BlobWriter
from libs.common.process.service import Stop
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.demo.applogs.fleet import MemberAppend
from libs.demo.commits import MinuteCommit
from libs.demo.estate import Estate
from libs.demo.inventory import container_of
from libs.demo.player import BlockLists, PlaybackPace, Player, Writing
from libs.demo.spec import EstateSpec
from libs.demo.truth import RowRange, table_of
from libs.local.azurite import LocalAzurite
from tests.pipeline import Pipeline, Plan, Storage, row_count

ARRIVES_WITHIN_SECONDS = 240.0
ALIAS = "test.local"
# The generator waits until storage is back, however long a test keeps it away.
PATIENT = RetryPolicy(deadline=ARRIVES_WITHIN_SECONDS, longest_wait=1.0)
C = TypeVar("C", MinuteCommit, MemberAppend)


@dataclass(slots=True)
class Played:
    """What the generator has written so far."""

    rows: list[RowRange]
    done: bool = False
    failure: Exception | None = None

    def truth(self) -> pa.Table:
        """Return every tuple written."""
        return table_of(self.rows)

    def count(self) -> int:
        """Return how many."""
        return sum(len(rows) for rows in self.rows)

    def is_done(self) -> bool:
        """Tell whether all is written. Raises what ended the generator."""
        if self.failure is not None:
            raise self.failure
        return self.done


def estate(nics: int, minutes: int, seed: int, tuples_per_minute: float = 28) -> EstateSpec:
    """Return an estate whose last minute has just passed, so that the monitor's close scan sees all of it."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = now - timedelta(minutes=minutes)
    return EstateSpec(seed=seed, nics=nics, tuples_per_minute=tuples_per_minute, start=start, minutes=minutes, account=ALIAS)


@contextmanager
def generating(azurite: LocalAzurite, spec: EstateSpec, speed: float) -> Iterator[Played]:
    """Play an estate against Azurite in the background."""
    writer = patient_writer(azurite)
    for container in sorted({container_of(kind) for kind in spec.kinds}):
        writer.create_container(container)
    with playing(BlockLists(writer), Estate(spec).commits(), speed) as played:
        yield played


def patient_writer(azurite: LocalAzurite) -> BlobWriter:
    """Return a writer that waits until Azurite is back."""
    return BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), ALIAS, PATIENT)


@contextmanager
def playing(to: Writing[C], commits: Iterable[C], speed: float) -> Iterator[Played]:
    """Make commits in the background; `to` is closed at the end."""
    played, stop = Played([]), Stop()

    def play() -> None:
        try:
            Player(to, PlaybackPace(speed), lambda commit, _: played.rows.append(commit.rows)).play(commits, stop)
            played.done = True
        except Exception as error:  # noqa: BLE001 - raised again in the test's thread
            played.failure = error

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield played
    finally:
        stop.set()
        thread.join()
        to.close()


def plan_of(kafka: KafkaSettings, topics: TopicSettings, storage: Storage, directory: Path, **more: Any) -> Plan:
    """Return a pipeline that writes Parquet files every second."""
    sinks = {"file": {"directory": str(directory / "flows"), "format": "parquet", "rotate_seconds": 1}}
    containers = ("insights-logs-flowlogflowevent", "insights-logs-networksecuritygroupflowevent")
    options: dict[str, Any] = {"sinks": sinks, "monitor": {"hours_back": 6}, **more}
    return Plan(kafka, topics, storage, containers, directory, **options)


def wait_for_all(pipeline: Pipeline, played: Played) -> None:
    """Wait until the generator is done and as many rows as it wrote are in files."""
    directory = pipeline.plan.rows_directory
    wait_while_it_grows(pipeline, played.is_done, played.count, "the generator's end")
    wait_while_it_grows(
        pipeline, lambda: row_count(directory) >= played.count(), lambda: row_count(directory), "all rows in files"
    )


def wait_while_it_grows(pipeline: Pipeline, done: Callable[[], bool], count: Callable[[], int], what: str) -> None:
    """Wait until `done`, however slow the machine is.

    Raises:
        AssertionError: with `what`, if `count` stands still for `ARRIVES_WITHIN_SECONDS`.
    """
    while not done():
        before = count()
        pipeline.wait(lambda: done() or count() > before, ARRIVES_WITHIN_SECONDS, f"{what}; {before} so far")  # noqa: B023
