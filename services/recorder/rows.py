"""Turn answers into Kafka records: rows, the new state of their source, and dead letters. Pure, but for the names of runs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.grouping import groups_within
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import OMITTED_BYTES, DeadLetter, ErrorCode
from libs.common.messages.events import SourceState, encode_event, event_headers
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.wire import encode_rows, row_headers
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.recorder import HttpSourceSettings
from services.recorder.asking import AnswerFacts, HeldAnswer, RefusedAnswer, Snapshot

STAGE: Final = "recorder"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FRAMING: Final = 32_768  # of a batch: its schema, its dictionaries, and what Arrow adds to each column
_ROW: Final = 128  # what a row takes besides its record


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What is written for an answer: the records, the state that one of them holds, and how many rows are in them."""

    records: tuple[Outbound, ...]
    state: SourceState
    rows: int

    @property
    def size(self) -> int:
        """Bytes in the values of the records."""
        return sum(len(record.value or b"") for record in self.records)


@dataclass(frozen=True, slots=True)
class SnapshotWriter:
    """Makes the records of one transaction. `room` returns the maximum size of a value for a topic."""

    topics: TopicSettings
    room: Callable[[str], int]

    def written(self, source: HttpSourceSettings, answer: HeldAnswer, last: SourceState | None) -> RecordedAnswer:
        """Return what is written for an answer after the state `last`; None if nothing is known of the source."""
        asked_at, key = _time(answer.facts.asked_ms), source.name.encode()
        state = SourceState(source.name, new_run(answer.facts), 0, asked_at) if last is None else last
        if isinstance(answer, RefusedAnswer):
            new, rows = replace(state, asked_at=asked_at), 0
            records = [self._letter(source, answer, state.run)]
        else:
            records, rows = self._rows(source, answer, state)
            new = _next(state, answer, state.next_sequence + bool(rows))
        records.append(Outbound(self.topics.recorder_state, encode_event(new), key, event_headers(new)))
        return RecordedAnswer(tuple(records), new, rows)

    def _rows(self, source: HttpSourceSettings, snapshot: Snapshot, state: SourceState) -> tuple[list[Outbound], int]:
        """Return the messages of rows, and dead letters for records that fit into none, and how many rows there are."""
        topic, key = self.topics.snapshots, source.name.encode()
        most = self.room(topic) - _FRAMING - _ROW
        too_large = [number for number, record in enumerate(snapshot.records) if len(record) > most]
        fitting = [number for number, record in enumerate(snapshot.records) if len(record) <= most]
        messages = [self._letter(source, _too_large(snapshot, number, topic), state.run) for number in too_large]
        for items in groups_within(fitting, lambda number: len(snapshot.records[number]) + _ROW, most):
            batch = snapshot_batch(source, snapshot, state, items)
            headers = (*row_headers(SNAPSHOTS), ("rows", str(len(items)).encode()))
            messages.append(Outbound(topic, encode_rows(SNAPSHOTS, batch), key, headers))
        return messages, len(fitting)

    def _letter(self, source: HttpSourceSettings, refused: RefusedAnswer, run: str) -> Outbound:
        facts = refused.facts
        details = {"url": source.address, "status": str(facts.status), "asked_at": _time(facts.asked_ms).isoformat()}
        if refused.omitted:
            details[OMITTED_BYTES] = str(refused.omitted)
        letter = DeadLetter(
            stage=STAGE,
            code=refused.code,
            reason=refused.reason,
            data=refused.data,
            key=source.name.encode(),
            blob=source.name,
            generation=run,
            source=details,
        )
        return Outbound(self.topics.errors, letter.data, letter.key, letter.headers())


def _next(state: SourceState, snapshot: Snapshot, sequence: int) -> SourceState:
    """Return the state of a source after an answer."""
    return SourceState(
        source=state.source,
        run=state.run,
        next_sequence=sequence,
        asked_at=_time(snapshot.facts.asked_ms),
        etag=snapshot.etag,
        last_modified=snapshot.last_modified,
        answer_hash=snapshot.answer_hash,
    )


def new_run(facts: AnswerFacts) -> str:
    """Return a name that no other run of any source has; they sort by time."""
    return f"{facts.asked_ms}-{secrets.token_hex(4)}"


def _time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _too_large(snapshot: Snapshot, number: int, topic: str) -> RefusedAnswer:
    record = snapshot.records[number]
    which = f"record {number} of the answer" if len(snapshot.records) > 1 else "the record of the answer"
    reason = f"{which} has {len(record)} bytes, more than a message of {topic} can take"
    return RefusedAnswer(snapshot.facts, ErrorCode.TOO_LARGE, reason, record)


def snapshot_batch(source: HttpSourceSettings, snapshot: Snapshot, state: SourceState, items: Sequence[int]) -> pa.RecordBatch:
    """Return the rows of some records of one answer."""
    facts, count = snapshot.facts, len(items)
    same = {
        "time": facts.asked_ms,
        "source": source.name,
        "url": source.address,
        "http_response_status_code": facts.status,
        "response_time": facts.took_us,
        "answer_size": facts.size,
        "answer_hash": snapshot.answer_hash,
        "run": state.run,
        "sequence": state.next_sequence,
    }
    columns = {name: _repeated(value, SNAPSHOTS.schema.field(name).type, count) for name, value in same.items()}
    columns["record"] = pa.array([snapshot.records[item] for item in items], pa.binary()).cast(pa.string())
    columns["item"] = pa.array(items, pa.int32())
    return pa.record_batch([columns[name] for name in SNAPSHOTS.names], schema=SNAPSHOTS.schema)


def _repeated(value: object, kind: pa.DataType, count: int) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], pa.string()))
    return pa.array([value] * count, kind)
