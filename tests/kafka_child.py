"""A process that copies records exactly once, to be killed by tests: ``python -m tests.kafka_child SPEC``, SPEC as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from libs.common.kafka.loops.transform_loop import PollPolicy, Transform, TransformLoop
from libs.common.kafka.records import Inbound, Outbound
from libs.common.kafka.transactions import session
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.settings.kafka import KafkaSettings


class Killed(Producer):
    """Dies in its second commit: before the coordinator hears of it, or just after."""

    moment = ""
    commits = 0

    def commit_transaction(self, timeout: float = -1) -> None:
        """Commit, or die."""
        Killed.commits += 1
        if Killed.commits == 2 and self.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit_transaction(timeout)
        if Killed.commits == 2 and self.moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)


class Copy(Transform):
    """Copies a record with its partition."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Return the same bytes for the other topic."""
        return [Outbound(self._topic, record.value, partition=record.partition) for record in batch]

    def committed(self) -> None:
        """Remember nothing."""


def main(spec: dict[str, Any]) -> None:
    """Copy until SIGTERM."""
    Killed.moment = spec["die"]
    session.Producer = Killed  # type: ignore[attr-defined]
    kafka = KafkaSettings(**spec["kafka"])
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    TransformLoop(
        lambda listener: TransactionalSession(kafka, SessionSpec("copy", spec["ordinal"], (spec["source"],)), listener),
        Copy(spec["target"]),
        PollPolicy(0.2, 50, 1 << 20),
        spec["errors"],
        "copy",
    ).run(stop, Health())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
