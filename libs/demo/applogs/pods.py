"""The pods of a fleet: services, names, containers and the peculiarities of each. All are derived from the seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from libs.common.messages.blobs import BlobId
from libs.demo.applogs.spec import LogSpec

_MINUTES_PER_DAY: Final = 1440
_LIFETIMES: Final = {
    3: 97,
    5: 613,
}  # minutes, by the number of the pod modulo 7; of other pods, the container is never restarted
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"  # of the names that Kubernetes makes up


class LineShape(StrEnum):
    """The form of a line."""

    ACCESS = "access"  # Apache, {logs: {requestFirstLine, ...}, kubernetes}
    REQUEST = "request"  # a request that a program logs, {logs: {timeMillis, contextMap}, kubernetes}
    LOG4J2 = "log4j2"  # {logs: {instant, level, ...}, kubernetes}
    CONTAINER = "container"  # {stream, log, kubernetes}
    TRACE = "trace"  # several lines of a container, each in an object of its own, that are one stack trace
    BLANK = "blank"  # nothing but a newline


@dataclass(frozen=True, slots=True)
class LogService:
    """A service, and what its containers write: shapes with their weights."""

    name: str  # of the selector that takes its blobs; empty: none does
    pod: str  # beginning of the names of its pods
    container: str
    mix: tuple[tuple[LineShape, float], ...]
    is_proxy: bool = False
    is_numbered: bool = False  # pods are called -0, -1, ...


_PROXY: Final = ((LineShape.ACCESS, 0.94), (LineShape.CONTAINER, 0.05), (LineShape.BLANK, 0.01))
_JAVA: Final = (
    (LineShape.LOG4J2, 0.62),
    (LineShape.REQUEST, 0.28),
    (LineShape.CONTAINER, 0.06),
    (LineShape.TRACE, 0.03),
    (LineShape.BLANK, 0.01),
)
_PLAIN: Final = ((LineShape.CONTAINER, 0.93), (LineShape.TRACE, 0.05), (LineShape.BLANK, 0.02))
SERVICES: Final = (
    LogService("apache-proxy", "apache2-igc", "proxy", _PROXY, is_proxy=True),
    LogService("api", "api", "platform", _JAVA),
    LogService("backoffice", "backoffice", "platform", _JAVA),
    LogService("background-processing", "backgroundprocessing", "platform", _JAVA),
    LogService("jsapps", "jsapps", "jsapps", ((LineShape.ACCESS, 0.6), (LineShape.CONTAINER, 0.39), (LineShape.BLANK, 0.01))),
    LogService("imageprocessing", "imageprocessing", "imageprocessing", _PLAIN),
    LogService("zookeeper", "zookeeper", "zookeeper", _PLAIN, is_numbered=True),
    LogService("", "apache2-igc-nat", "proxy", _PROXY, is_proxy=True),
)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod with one container. `rank` counts within its service; the number determines its peculiarities."""

    number: int
    rank: int
    service: LogService
    name: str
    seed: int

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return "default" if self.service.is_proxy or self.rank % 5 else "shop"

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"10.244.{self.number >> 8 & 255}.{self.number & 255}"

    @property
    def node(self) -> str:
        """The machine that it runs on."""
        return f"aks-nodepool1-27180469-vmss{self.number % 6:06x}"

    @property
    def capitalises(self) -> bool:
        """Whether its collector writes `Logs` instead of `logs`, and white space between members."""
        return self.number % 3 == 1

    @property
    def splits_lines(self) -> bool:
        """Whether its collector writes by size, so that most members end in the middle of a line."""
        return self.number % 5 == 2  # noqa: PLR2004 - a residue

    def container_since(self, minute: int, first: int) -> int:
        """Return the minute in which its container of `minute` was started; those of the `first` one begin with the fleet."""
        lifetime = _LIFETIMES.get(self.number % 7)
        return first if lifetime is None else max(first, minute - (minute + self.number) % lifetime)

    def blob(self, spec: LogSpec, minute: int) -> BlobId:
        """Return the blob to which its lines of `minute` are written: one for each container and day."""
        day = datetime.fromtimestamp(minute // _MINUTES_PER_DAY * _MINUTES_PER_DAY * 60, UTC)
        container = container_id(self, self.container_since(minute, spec.first_minute))
        name = f"kubernetes/{day:%Y%m%d}.{self.name}_{self.namespace}_{self.service.container}-{container}.gz"
        return BlobId(spec.account, spec.container, name)


def container_id(pod: Pod, since: int) -> str:
    """Return the id of a container, which no other one has: 64 hexadecimal digits."""
    return hashlib.sha256(f"{pod.seed}/{pod.name}/{since}".encode()).hexdigest()


def make_pods(spec: LogSpec) -> tuple[Pod, ...]:
    """Return the pods of `spec`."""
    return tuple(_pod(spec.seed, number) for number in range(spec.pods))


def _pod(seed: int, number: int) -> Pod:
    rank, turn = divmod(number, len(SERVICES))
    service = SERVICES[turn]
    if service.is_numbered:
        return Pod(number, rank, service, f"{service.pod}-{rank}", seed)
    replicas = hashlib.sha256(f"{seed}/{service.pod}".encode()).hexdigest()[:9]
    return Pod(number, rank, service, f"{service.pod}-{replicas}-{_suffix(seed, number)}", seed)


def _suffix(seed: int, number: int) -> str:
    digest = hashlib.sha256(f"{seed}/pod/{number}".encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:5])
