"""What the API says about a request. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from libs.common.kafka.records import Inbound
from services.collector.progress import CallOutcome, CallPlace, CallProblem, RequestProgress
from services.collector.requests.schema import RequestRefused, read_request
from services.collector.rows import ERROR, PARTIAL, SUCCESS


class RequestState(StrEnum):
    """How far a request has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"


class CallState(StrEnum):
    """How far a call has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"


class AcceptedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is in Kafka."""

    id: Annotated[str, Meta(description="The `message_id` of the request.")]
    repeated: Annotated[
        bool,
        Meta(description="Whether a request with this id was known already. Then nothing was done, whatever it says."),
    ]


class CallProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one call of a request has come."""

    index: Annotated[int, Meta(description="Number of the call in `api_requests`, from 0, as in the column `request_index`.")]
    state: Annotated[
        CallState, Meta(description="`waiting` before the first answer, `running` between answers, `done` after the last.")
    ]
    status: Annotated[
        str | None,
        Meta(
            description=f"How it ended: `{SUCCESS}`, `{PARTIAL}` or `{ERROR}`. Null until then, and if it ended "
            "before this was recorded."
        ),
    ] = None
    pages: Annotated[int, Meta(description="Pages read so far.")] = 0
    received: Annotated[int, Meta(description="Resources or rows received so far.")] = 0
    expected: Annotated[int | None, Meta(description="How many there should be, if Azure says so.")] = None
    waited_seconds: Annotated[
        float | None, Meta(description="For how long a call that runs has waited for Azure's limits and errors.")
    ] = None
    unanswered_since: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="Since when Azure does not answer this call, or throttles it."),
    ] = None
    error: Annotated[CallProblem | None, Meta(description="Why it is not a success.")] = None


class CollectionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a request has come."""

    id: Annotated[str, Meta(description="The `message_id` of the request.")]
    state: Annotated[
        RequestState,
        Meta(
            description="`waiting`: in Kafka, without an answer yet. `running`: some calls have answers. `done`: all have "
            "ended. `refused`: what is in Kafka under this id is no request; `Errors` says why."
        ),
    ]
    status: Annotated[
        str | None,
        Meta(description=f"Of a request that is done: `{SUCCESS}` if all calls are, `{ERROR}` if all are, else `{PARTIAL}`."),
    ] = None
    updated_at: Annotated[datetime, Meta(tz=True, description="When this was written to Kafka.")]
    calls_total: Annotated[int, Meta(description="Number of calls.")] = 0
    calls_done: Annotated[int, Meta(description="Number of those that have ended.")] = 0
    calls_failed: Annotated[int, Meta(description="Number of those that ended without success.")] = 0
    calls: Annotated[list[CallProgress], Meta(description="The calls, in order.")] = []


def waiting(message_id: str, record: Inbound) -> CollectionProgress:
    """Return what is known of a request that is only in `Collection.Requests`."""
    try:
        calls, state = len(read_request(record.value or b"").api_requests), RequestState.WAITING
    except RequestRefused:
        calls, state = 0, RequestState.REFUSED
    return CollectionProgress(
        id=message_id,
        state=state,
        updated_at=_time(record.timestamp_ms / 1000),
        calls_total=calls,
        calls=[CallProgress(index=index, state=CallState.WAITING) for index in range(calls)],
    )


def progressed(message_id: str, progress: RequestProgress, timestamp_ms: int) -> CollectionProgress:
    """Return what its record in `Collection.State` says."""
    calls = list(_calls(progress))
    statuses = [call.status for call in calls]
    return CollectionProgress(
        id=message_id,
        state=RequestState.DONE if progress.is_over else RequestState.RUNNING,
        status=_status(statuses) if progress.is_over else None,
        updated_at=_time(timestamp_ms / 1000),
        calls_total=progress.calls,
        calls_done=len(progress.ended),
        calls_failed=sum(status in {ERROR, PARTIAL} for status in statuses),
        calls=calls,
    )


def _calls(progress: RequestProgress) -> Iterator[CallProgress]:
    ended = set(progress.ended)
    for index in range(progress.calls):
        if index in ended:
            yield _ended(index, progress.outcomes.get(index, CallOutcome()))
        elif index in progress.places:
            yield _running(index, progress.places[index])
        else:
            yield CallProgress(index=index, state=CallState.WAITING)


def _ended(index: int, outcome: CallOutcome) -> CallProgress:
    return CallProgress(
        index=index,
        state=CallState.DONE,
        status=outcome.status or None,
        pages=outcome.pages,
        received=outcome.received,
        expected=outcome.expected,
        error=outcome.problem,
    )


def _running(index: int, place: CallPlace) -> CallProgress:
    return CallProgress(
        index=index,
        state=CallState.RUNNING,
        pages=place.cursor.pages,
        received=place.cursor.received,
        expected=place.cursor.expected,
        waited_seconds=round(place.waited, 3),
        unanswered_since=_time(place.since) if place.since else None,
    )


def _status(statuses: list[str | None]) -> str | None:
    """Return the status of a request, of whose calls none is still open."""
    kinds = set(statuses)
    if None in kinds:
        return None
    (status,) = kinds if len(kinds) == 1 else {PARTIAL}
    return status


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
