"""Which sources cannot be recorded, and why: for the log, when that changes, and for probes."""

from __future__ import annotations

from contextlib import suppress

import structlog

from libs.common.process.health import Health, Need
from services.recorder import metrics

log = structlog.get_logger(__name__)


class SourceTroubles:
    """The troubles of the owned sources. The process is ready as long as one of them can be recorded."""

    def __init__(self) -> None:
        self._owned: set[str] = set()
        self._reasons: dict[str, str] = {}

    def own(self, names: set[str], health: Health) -> None:
        """Forget the troubles of sources that are not ours any more."""
        for name in self._owned - names:
            self._reasons.pop(name, None)
            health.note(_subject(name), "")
            with suppress(KeyError):  # nothing was said of it yet
                metrics.UP.remove(name)
        self._owned = set(names)
        self._tell(health)

    def well(self, name: str, health: Health) -> None:
        """Note that an answer of a source can be recorded."""
        metrics.UP.labels(name).set(1)
        if self._reasons.pop(name, None) is not None:
            log.info("the source can be recorded again", source=name)
            health.note(_subject(name), "")
            self._tell(health)

    def ill(self, name: str, reason: str, health: Health) -> None:
        """Note why a source cannot be recorded; it is logged when the reason is new."""
        metrics.UP.labels(name).set(0)
        if self._reasons.get(name) != reason:
            log.warning("the source cannot be recorded", source=name, reason=reason)
            self._reasons[name] = reason
            health.note(_subject(name), f"source {name}: {reason}")
            self._tell(health)

    def _tell(self, health: Health) -> None:
        all_ill = bool(self._owned) and self._owned <= self._reasons.keys()
        health.tell("no source can be recorded: see the notes" if all_ill else "", Need.OTHERS)


def _subject(name: str) -> str:
    return f"source {name}"
