"""The limit of anything between two topics: the parser's own loop with a transform that does nothing. A child process.

It reads a topic and writes the same records to ``Errors``, which takes records of any size, exactly once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click

from libs.common.kafka.loops.transform_loop import PollPolicy, Transform, TransformLoop
from libs.common.kafka.records import Inbound, Listener, Outbound, Session
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.service import Service, run_service
from libs.common.settings import Settings, load_settings

ROLE: Final = "copy"


@dataclass(frozen=True, slots=True)
class _Copy(Transform):
    topic: str

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Return the records unchanged, for the same partitions."""
        return [Outbound(self.topic, one.value, one.key, one.headers, one.partition) for one in batch]

    def committed(self) -> None:
        """Remember nothing."""


def build(source: str, settings: Settings) -> Service:
    """Build the copier of a topic with the parser's batch sizes."""
    topics, parser = settings.topics, settings.parser
    spec = SessionSpec(ROLE, settings.instance.ordinal, (source,))

    def make_session(listener: Listener) -> Session:
        return TransactionalSession(settings.kafka, spec, listener)

    policy = PollPolicy(parser.poll_seconds, parser.poll_messages, parser.poll_bytes)
    return TransformLoop(make_session, _Copy(topics.errors), policy, topics.errors, ROLE)


@click.command()
@click.argument("topic")
@click.option("--config", type=click.Path(path_type=Path), required=True)
def main(topic: str, config: Path) -> None:
    """Copy until SIGTERM."""
    sys.exit(run_service(ROLE, load_settings(config), partial(build, topic)))


if __name__ == "__main__":
    main()
