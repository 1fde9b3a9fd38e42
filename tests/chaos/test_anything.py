"""Faults of every kind, one upon the other, at random moments: nothing is lost or doubled."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from tests.audit import assert_all_is_well
from tests.estates import estate, generating, plan_of
from tests.fixtures.long import Scale
from tests.freezing import frozen
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(3600)]

SEED = 20261122


@dataclass(frozen=True, slots=True)
class World:
    """What may fail, and the dice that say how."""

    pipeline: Pipeline
    kafka: LocalKafka
    azurite: LocalAzurite
    dice: random.Random

    def pause(self, longest: float) -> None:
        """Let everything go on for a random time."""
        self.pipeline.go_on_for(self.dice.uniform(0.1, longest))

    def any_process(self) -> str:
        """Return the name of one process."""
        return self.dice.choice(self.pipeline.names())


def broker_dies(world: World) -> None:
    """SIGKILL, and back after some seconds."""
    world.kafka.kill()
    world.pause(6)
    world.kafka.start()


def broker_hangs(world: World) -> None:
    """For a moment, or for longer than sessions and transactions live."""
    with frozen(world.kafka):
        world.pause(world.dice.choice((1, 15)))


def storage_is_away(world: World) -> None:
    """Connections are refused."""
    world.azurite.stop()
    world.pause(4)
    world.azurite.start()


def storage_hangs(world: World) -> None:
    """Connections stay open, nothing answers."""
    with frozen(world.azurite):
        world.pause(4)


def process_dies(world: World) -> None:
    """SIGKILL; the supervisor starts it again."""
    world.pipeline.kill(world.any_process())


def process_hangs(world: World) -> None:
    """For a moment, or until its partitions are others'; then it goes on where it was."""
    name = world.any_process()
    world.pipeline.signal(name, signal.SIGSTOP)
    world.pause(world.dice.choice((1, 15)))
    world.pipeline.signal(name, signal.SIGCONT)


def process_leaves_and_comes(world: World) -> None:
    """SIGTERM, and a new one some time later."""
    name = world.any_process()
    world.pipeline.take_out(name)
    world.pause(5)
    world.pipeline.put_in(name)


FAULTS: tuple[Callable[[World], None], ...] = (
    broker_dies,
    broker_hangs,
    storage_is_away,
    storage_hangs,
    process_dies,
    process_dies,
    process_hangs,
    process_leaves_and_comes,
)


def test_whatever_fails_and_whenever_every_row_arrives_once(
    kafka: LocalKafka,
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    own_azurite: LocalAzurite,
    tmp_path: Path,
    scale: Scale,
) -> None:
    """Two of each service; faults follow each other within moments, while processes are still busy with the ones before."""
    faults = 60 if scale is Scale.LONG else 5
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path, monitors=2, ingesters=2, parsers=2, file_sinks=2)
    with generating(own_azurite, estate(10, 12 * faults, seed=41), speed=100) as played, Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        world = World(pipeline, kafka, own_azurite, random.Random(SEED))
        for number in range(faults):
            fault = world.dice.choice(FAULTS)
            print(f"{number}: {fault.__name__}")  # noqa: T201
            fault(world)
            world.pause(3)
        assert_all_is_well(pipeline, played)
