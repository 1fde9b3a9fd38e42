"""Memory of the processes that work off a backlog: bounded, whatever waits for them."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from tests.audit import wait_until_consumed
from tests.estates import ARRIVES_WITHIN_SECONDS, estate, generating, plan_of, wait_for_all
from tests.fixtures.long import Scale
from tests.pipeline import Pipeline, assert_same_rows_in_order, read_rows

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.alone, pytest.mark.timeout(1800)]

MIB = 1024 * 1024
MOST_MIB = 256
BUSY_TUPLES_PER_MINUTE = 8_000


@dataclass
class Memory:
    """Resident memory of every process, in MiB, as it was seen."""

    pipeline: Pipeline
    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self) -> None:
        """Take a sample."""
        for name in self.pipeline.names():
            for process in self.pipeline.processes(name):
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.seen[name].append(process.memory_info().rss / MIB)

    def peaks(self) -> dict[str, int]:
        """Return the highest sample of each process."""
        return {name: round(max(samples)) for name, samples in self.seen.items()}

    def show(self) -> None:
        """Print how memory went: ten moments from start to end, and the peak."""
        for name, samples in self.seen.items():
            moments = [round(samples[len(samples) * n // 10]) for n in range(10)]
            print(f"{name}: {moments} ... {round(samples[-1])}, at most {round(max(samples))} MiB")  # noqa: T201


def test_memory_is_bounded_while_a_big_backlog_is_worked_off(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path, scale: Scale
) -> None:
    """No process takes more than 256 MiB for a backlog of busy interfaces, and all of it arrives."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    spec = estate(20, 30 if scale is Scale.LONG else 4, seed=51, tuples_per_minute=BUSY_TUPLES_PER_MINUTE)
    pipeline = Pipeline(plan)
    memory = Memory(pipeline)
    with generating(own_azurite, spec, speed=0) as played:
        deadline = time.monotonic() + 2 * ARRIVES_WITHIN_SECONDS
        while not played.is_done():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pipeline.running():
            pipeline.watch(memory.look)
            wait_for_all(pipeline, played)
            wait_until_consumed(pipeline)
        memory.show()
        assert_same_rows_in_order(read_rows(plan.rows_directory), played.truth())
    assert {name: peak for name, peak in memory.peaks().items() if peak > MOST_MIB} == {}
    assert pipeline.restarts() == 0
