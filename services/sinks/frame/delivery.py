"""Deliver request bodies to a receiver that answers for a body as a whole: several at a time, and refused ones by halves.

- A receiver that does not take the content of a body is asked with its halves, down to single rows: only those that are refused
  alone are rejected. A body that is too large is halved in the same way. Where bodies are halved follows only from their rows.
- If a receiver refuses rows from all over a body and takes none, it is at fault and not the rows: the write is a `Retry`.
- What was delivered before a `Retry` is remembered until the write succeeds, and not sent again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.bodies import Body
from services.sinks.frame.contract import Outcome, RejectedRow
from services.sinks.frame.in_flight import InFlight

_HOPELESS: Final = 8  # single rows, from all over a body, refused in a write, with none accepted
_HOPELESS_IN_ORDER: Final = 64  # the same, one after the other: neighbours are often alike
_PROBES: Final = 256


@dataclass(frozen=True, slots=True)
class BodyAccepted:
    """The receiver has taken a body; of its rows, it permanently rejects some without saying which."""

    rejected: int = 0
    reason: str = ""
    already_there: bool = False


@dataclass(frozen=True, slots=True)
class BodyRefused:
    """The receiver does not take a body because of its content or size, and has stored none of it."""

    reason: str
    code: ErrorCode = ErrorCode.REFUSED


Reply = BodyAccepted | BodyRefused
Send = Callable[[Body], Reply]
"""Sends a body, from any thread. Raises Retry or ConfigError if the answer is about neither its content nor its size."""


@dataclass(slots=True)
class _Delivered:
    """What became of rows. For those in `unclear`, it is not known who is at fault: if others were accepted, they are."""

    written: int = 0
    already_there: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    unclear: list[RejectedRow] = field(default_factory=list)

    def add(self, other: _Delivered) -> None:
        self.written += other.written
        self.already_there += other.already_there
        self.rejected += other.rejected
        self.unclear += other.unclear


@dataclass(frozen=True, slots=True)
class Manner:
    """How to deliver.

    Attributes:
        in_flight: how many bodies at the same time.
        in_order: whether the rows of a refused body are sent in their order; else the largest piece is always tried next.
        judges: whether a receiver that refuses everything is at fault, and not the rows.
    """

    in_flight: int
    in_order: bool = False
    judges: bool = True


class BodySender:
    """Delivers bodies. One write at a time; `send` is called from several threads."""

    def __init__(self, send: Send, manner: Manner) -> None:
        """Start no thread yet."""
        self._send = send
        self._manner = manner
        self._in_flight = InFlight(manner.in_flight, "bodies")
        self._known: dict[str, _Delivered] = {}
        self._lock = threading.Lock()
        self._accepts = False
        self._refusals = 0

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` every second while waiting for answers."""
        self._in_flight.beat = beat

    def open(self) -> None:
        """Get ready."""
        self.close()
        self._in_flight.open()

    def close(self) -> None:
        """Wait for requests in flight, and forget everything; idempotent."""
        self._in_flight.close()
        self.forget()

    def forget(self) -> None:
        """Forget what was delivered before a `Retry`."""
        self._known = {}

    def write(self, groups: Iterable[Iterable[Body]]) -> Outcome:
        """Deliver all bodies. Those of one group are sent one after the other, in order.

        Raises:
            Retry: if the receiver does not take all of them now, or takes none at all.
            ConfigError: as `send`.
        """
        self._accepts, self._refusals = False, 0
        delivered = _Delivered()
        for _, result in self._in_flight.results(groups, self._deliver_all):
            delivered.add(result)
        if delivered.unclear and not self._accepts:
            self._judge(delivered.unclear[0].reason)
        self.forget()
        rejected = sorted((*delivered.rejected, *delivered.unclear), key=lambda one: (one.part, one.row))
        return Outcome(delivered.written, delivered.already_there, tuple(rejected))

    def _deliver_all(self, bodies: Iterable[Body]) -> _Delivered:
        delivered = _Delivered()
        for body in bodies:
            delivered.add(self._deliver(body))
        return delivered

    def _deliver(self, body: Body) -> _Delivered:
        """Deliver a body, in halves if need be."""
        delivered, pending = _Delivered(), deque([body])
        while pending:
            some = pending.pop() if self._manner.in_order else pending.popleft()
            while (refused := self._refused(some, delivered)) is not None:
                if some.rows == 1:
                    delivered.unclear.append(_rejected(some, 0, refused.reason, refused.code))
                    self._count(refused)
                    break
                some, second = some.halves()
                pending.append(second)
        return delivered

    def _refused(self, body: Body, delivered: _Delivered) -> BodyRefused | None:
        """Deliver a body as it is, and return why it is refused, or add what became of it."""
        known = self._known.get(body.name)
        if known is None:
            reply = self._send(body)
            if isinstance(reply, BodyRefused):
                return reply
            self._accepts = True
            self._known[body.name] = known = self._taken(body, reply)
        delivered.add(known)
        return None

    def _taken(self, body: Body, accepted: BodyAccepted) -> _Delivered:
        if accepted.already_there:
            return _Delivered(already_there=body.rows)
        if not accepted.rejected:
            return _Delivered(written=body.rows)
        rejected = [_rejected(body, row, reason) for row, reason in self._search(body, accepted)]
        return _Delivered(body.rows - len(rejected), rejected=rejected)

    def _count(self, refused: BodyRefused) -> None:
        """Count a row that is refused alone, and judge when there are many."""
        most = _HOPELESS_IN_ORDER if self._manner.in_order else _HOPELESS
        with self._lock:
            self._refusals += 1
            is_hopeless = self._refusals >= most and not self._accepts
        if is_hopeless:
            self._judge(refused.reason)

    def _judge(self, reason: str) -> None:
        if self._manner.judges:
            raise Retry(
                f"row after row is refused and none accepted, so the receiver is assumed to be at fault: {reason};"
                " dead_letter_limit: 1 would dead-letter them",
                kind="refused",
            )

    def _search(self, body: Body, accepted: BodyAccepted) -> Iterator[tuple[int, str]]:
        """Find the rejected rows of a body of which the receiver has taken the others, and why.

        The receiver gets some rows again: the first half, as long as that says where the rejected ones are. If this takes too
        many requests, all rows among which there are some count as rejected: a row too many in the dead letters is better than
        one that is nowhere.
        """
        places = [(body, accepted.rejected, accepted.reason)]
        for _ in range(_PROBES):
            if not places:
                return
            some, rejected, reason = places.pop()
            if rejected >= some.rows:
                yield from ((some.start - body.start + row, reason) for row in range(some.rows))
                continue
            first, second = some.halves()
            in_first, why = self._rejected_of(first, rejected, reason)
            places += [(half, count, why) for half, count in ((second, rejected - in_first), (first, in_first)) if count > 0]
        for some, rejected, reason in places:
            unsure = f"{rejected} of {some.rows} rows were rejected, this may be one of them: {reason}"
            yield from ((some.start - body.start + row, unsure) for row in range(some.rows))

    def _rejected_of(self, body: Body, most: int, reason: str) -> tuple[int, str]:
        match self._send(body):
            case BodyAccepted() as accepted:
                return min(accepted.rejected, most), accepted.reason or reason
            case BodyRefused() as refused:
                return min(body.rows, most), refused.reason


def _rejected(body: Body, row: int, reason: str, code: ErrorCode = ErrorCode.REFUSED) -> RejectedRow:
    return RejectedRow(body.part, body.start + row, code, reason)
