"""What the writers of all shapes share: the scene of a line, and the object that the log collector puts around it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, TypeVar

import msgspec

from libs.demo.applogs.pods import LineShape, Pod

T = TypeVar("T")

NS_PER_SECOND: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_COLLECTED_AFTER_MS: Final = 400  # at most
_TOGETHER_NS: Final = 10 * NS_PER_SECOND
_REQUESTS: Final = 16
_FOLLOWED_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line with its newline, and the truth about it: columns of `truth.LOG_TRUTH_SCHEMA`, without position and source.

    `continues`: it belongs to the row of the line before.
    """

    data: bytes
    shape: LineShape
    truth: Mapping[str, Any]
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """A pod at a moment: `time` and `collected` (by the log collector) in nanoseconds since 1970."""

    pod: Pod
    container_id: str
    dice: Random
    time: int
    collected: int

    @classmethod
    def at(cls, pod: Pod, container_id: str, dice: Random, time: int) -> Scene:
        """Return the scene at `time`, collected in milliseconds soon afterwards."""
        later = dice.randrange(1, _COLLECTED_AFTER_MS) * _NS_PER_MS
        return cls(pod, container_id, dice, time, (time + later) // _NS_PER_MS * _NS_PER_MS)

    def one_of(self, values: Sequence[T]) -> T:
        """Draw one of `values`."""
        return values[int(self.dice.random() * len(values))]

    def chance(self, share: float) -> bool:
        """Draw whether something happens that happens in `share` of all cases."""
        return self.dice.random() < share

    def request_id(self) -> str | None:
        """Draw the id of one of the requests that all pods work on in these seconds; None if this one has no id."""
        number = self.dice.randrange(_REQUESTS)
        return f"{self.time // _TOGETHER_NS:x}-{number:04x}" if self.chance(_FOLLOWED_SHARE) else None

    def logged(self, logs: Mapping[str, Any]) -> bytes:
        """Return the line of a structured log."""
        name = "Logs" if self.pod.capitalises else "logs"
        return self._line({"@timestamp": rfc3339(self.collected), name: logs, "kubernetes": self._kubernetes()})

    def printed(self, text: str, stream: str) -> bytes:
        """Return the line for what the container printed."""
        clock = "time" if self.pod.capitalises else "@timestamp"
        known = {clock: rfc3339(self.collected), "stream": stream, "_p": "F", "log": text}
        return self._line({**known, "kubernetes": self._kubernetes()})

    def _line(self, record: Mapping[str, Any]) -> bytes:
        if self.pod.capitalises:
            return json.dumps(record).encode() + b"\n"
        return msgspec.json.encode(record) + b"\n"

    def _kubernetes(self) -> dict[str, Any]:
        pod = self.pod
        return {
            "pod_name": pod.name,
            "namespace_name": pod.namespace,
            "container_name": pod.service.container,
            "docker_id": self.container_id,
            "host": pod.node,
            "pod_ip": pod.address,
            "labels": {"app": pod.service.pod},
        }


def rfc3339(time: int) -> str:
    """Return a time in nanoseconds as text, with milliseconds."""
    seconds, rest = divmod(time, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // _NS_PER_MS:03}Z"


def milliseconds(time: int) -> int:
    """Return a time in nanoseconds in milliseconds."""
    return time // _NS_PER_MS
