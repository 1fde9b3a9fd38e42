"""What has been recorded of each source: the compacted state topic in memory, for the sources that are configured."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import structlog

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.events import SourceState, decode_event
from services.recorder import metrics

log = structlog.get_logger(__name__)


class SourceStates:
    """The newest committed state of each of `sources`, by name."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._keys = {name.encode(): name for name in sources}
        self._states: dict[str, SourceState] = {}

    def get(self, name: str) -> SourceState | None:
        """Return the state of a source, if anything has been recorded of it."""
        return self._states.get(name)

    def put(self, state: SourceState) -> None:
        """Remember a state that has been committed."""
        self._states[state.source] = state

    def clear(self) -> None:
        """Forget everything, before the topic is read from its beginning."""
        self._states.clear()

    def apply(self, record: Inbound) -> None:
        """Take over a record of the topic. One that cannot be read is ignored: the source then begins a new run."""
        name = self._keys.get(record.key or b"")
        if name is None:
            return
        known = self._states.pop(name, None)
        if record.value is None:
            return
        try:
            state = _state(record.value, name)
            # With more partitions than before, an older record may be on another partition, and be read after the newer one.
            self._states[name] = state if known is None else max(known, state, key=_order)
        except CodecError as error:
            metrics.UNREADABLE_STATE.inc()
            log.warning("unreadable state: the source begins a new run", source=name, offset=record.offset, error=str(error))


def _order(state: SourceState) -> tuple[str, int, datetime]:
    """Return what ascends from one state of a source to the next: names of runs sort by time."""
    return state.run, state.next_sequence, state.asked_at


def _state(value: bytes, name: str) -> SourceState:
    event = decode_event(value)
    if not isinstance(event, SourceState) or event.source != name:
        raise CodecError(f"not the state of {name}")
    return event
