"""What comes of a step of a call: rows and the next step, another try, or the end of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.azure.arm.api import ArmError, ArmGone, ArmUnavailable, PageExpired
from libs.common.azure.arm.pages import Page, PageStep, restarted
from libs.common.errors import BlobtideError
from libs.common.kafka.client.throttle import Throttle
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.resources import ResourceFacts
from libs.common.work.room import RoomShare
from services.collector import metrics
from services.collector.backlog import PendingCall, RequestBacklog
from services.collector.batch import MESSAGE_FRAMING, ResultBatch
from services.collector.defaults import CallDefaults
from services.collector.history import Sighting
from services.collector.intake import letter_of_call
from services.collector.inventory import Inventory
from services.collector.progress import CallProblem, KnownRequests
from services.collector.resources import SeenPage
from services.collector.rows import answer_rows, end_row, outcome_of, problem_of

log = structlog.get_logger(__name__)

MOST_DATA: Final = 4_000_000  # of an answer in one row
UNAUTHORISED: Final = 401
HEADROOM: Final = 2 * MESSAGE_FRAMING  # of a message, besides the data of a row


@dataclass(frozen=True, slots=True)
class SeenStep:
    """A step, the resources in its page, and the memory that both take."""

    step: PageStep
    seen: SeenPage | None
    share: RoomShare


@dataclass(frozen=True, slots=True)
class JudgeParts:
    """What a judge changes and asks.

    Attributes:
        room: returns the current maximum size of a message of results.
        give_up_seconds: for which a call may be put off.
        now: seconds since the epoch.
    """

    requests: RequestBacklog
    known: KnownRequests
    inventory: Inventory
    defaults: CallDefaults
    room: Callable[[], int]
    give_up_seconds: float
    now: Callable[[], float]


class CallJudge:
    """Judges steps, in the thread of the main loop. What it finds goes into the batch that it is given."""

    def __init__(self, parts: JudgeParts) -> None:
        self._parts = parts
        self._unanswered = Throttle()

    def take(self, call: PendingCall, result: SeenStep | Exception, batch: ResultBatch) -> None:
        """Decide what comes of a step, or of the error in its place."""
        match result:
            case SeenStep():
                self._answered(call, batch, result)
            case PageExpired():
                self._expired(call, batch)
            case ArmUnavailable():
                self._put_off(call, batch, result)
            case _:
                self._failed(call, batch, result)

    def _answered(self, call: PendingCall, batch: ResultBatch, result: SeenStep) -> None:
        call.since, step = 0.0, result.step
        if step.page is not None:
            call.waited += step.page.waited
            most = min(MOST_DATA, self._parts.room() - HEADROOM)
            try:
                rows = answer_rows(call, step.page, self._now_ms(), most)
            except BlobtideError as error:
                self._failed(call, batch, error)
                return
            batch.add(call.pending, rows)
            self._note_resources(call, batch, step.page, result.seen)
        call.cursor = step.cursor
        if step.is_last:
            self._note_states(call, batch, self._parts.inventory.gone(call.item.id, call.item.call, self._now_ms()))
            self._end(call, batch, None)
        else:
            batch.add(call.pending)
            self._parts.requests.again(call, step.after)

    def _note_resources(self, call: PendingCall, batch: ResultBatch, page: Page, seen: SeenPage | None) -> None:
        if seen is not None:
            self._note_states(call, batch, self._parts.inventory.changed(call.item.id, page.number, page.attempt, seen))

    def _note_states(self, call: PendingCall, batch: ResultBatch, states: Iterable[ResourceFacts]) -> None:
        pending, index = call.pending, call.item.index
        source, message_id = pending.record.source, pending.request.message_id
        batch.add_resources(Sighting(facts, source, message_id, index) for facts in states)

    def _expired(self, call: PendingCall, batch: ResultBatch) -> None:
        try:
            call.cursor = restarted(call.cursor)
        except PageExpired as error:
            self._failed(call, batch, error)
            return
        metrics.RESTARTS.inc()
        batch.add(call.pending)
        self._parts.requests.again(call)

    def _put_off(self, call: PendingCall, batch: ResultBatch, error: ArmUnavailable) -> None:
        now = self._parts.now()
        call.since = call.since or now
        if now - call.since > self._parts.give_up_seconds:
            self._failed(call, batch, error)
            return
        call.waited += error.after
        batch.add(call.pending)
        self._parts.requests.again(call, error.after)
        if self._unanswered.admits():
            log.warning("calls wait for Azure", error=str(error), seconds=error.after, calls=self._parts.requests.put_off)

    def _failed(self, call: PendingCall, batch: ResultBatch, error: Exception) -> None:
        """End a call that has failed; whatever an operator can do something about becomes a dead letter."""
        if not isinstance(error, BlobtideError):
            log.error("asking for a page crashed", call=call.item.call.path, exc_info=error)
            self._refuse(
                call, batch, ErrorCode.HANDLER_CRASH, f"{type(error).__name__} while asking Azure; see the service's log"
            )
            self._end(call, batch, CallProblem("HandlerCrash", "asking Azure crashed"))
            return
        if isinstance(error, ArmError) and error.refusal is not None and error.refusal.status == UNAUTHORISED:
            self._parts.defaults.refused()
        if not isinstance(error, ArmGone):
            self._refuse(call, batch, ErrorCode.REFUSED if isinstance(error, ArmError) else ErrorCode.TOO_LARGE, str(error))
        self._end(call, batch, problem_of(error))

    def _refuse(self, call: PendingCall, batch: ResultBatch, code: ErrorCode, reason: str) -> None:
        letter = letter_of_call(call.pending, call.item.index, code, reason)
        batch.refuse(call.pending.record.source, letter)

    def _end(self, call: PendingCall, batch: ResultBatch, problem: CallProblem | None) -> None:
        self._parts.inventory.forget(call.item.id)
        outcome = outcome_of(call.cursor, problem)
        batch.add(call.pending, [end_row(call, outcome, self._now_ms())])
        if self._parts.requests.end(call, outcome):
            self._parts.known.end(call.pending.record.partition, call.pending.key)

    def _now_ms(self) -> int:
        return int(self._parts.now() * 1000)
