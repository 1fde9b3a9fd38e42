"""Turn messages into requests. One that is no request becomes a dead letter; one whose id is known is passed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from libs.common.errors import CodecError, DeadLetterLimit
from libs.common.http.method import Method
from libs.common.kafka.loops.dead_messages import coordinates, dead_message
from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from services.collector import metrics
from services.collector.backlog import PendingRequest, RequestBacklog
from services.collector.batch import ResultBatch
from services.collector.defaults import CallDefaults
from services.collector.progress import CallOutcome, KnownRequests, RequestProgress
from services.collector.requests.defaults import with_defaults
from services.collector.requests.items import RefusedItem, WorkItem, work_items
from services.collector.requests.schema import CollectionRequest, NotJson, RequestRefused, read_request, write_request
from services.collector.rows import refused_outcome, refused_row

STAGE: Final = "collector"
MOST_REFUSED_IN_A_ROW: Final = 1_000


class RequestIntake:
    """Feeds the bookkeeping, and the transaction in the making."""

    def __init__(
        self,
        requests: RequestBacklog,
        known: KnownRequests,
        permitted: frozenset[Method],
        defaults: CallDefaults,
        now: Callable[[], float],
    ) -> None:
        self._requests = requests
        self._known = known
        self._permitted = permitted
        self._defaults = defaults
        self._now = now
        self._refused = 0  # in a row

    def take(self, record: Inbound, batch: ResultBatch) -> None:
        """Take a message in.

        Raises:
            DeadLetterLimit: so many in a row are no requests that it must be the wrong topic.
        """
        try:
            request = read_request(record.value or b"")
            _check_key(record, request)
            progress = self._known.get(record.partition, request.message_id.encode())
        except (RequestRefused, CodecError) as error:
            self._refuse(record, error, batch)
            return
        self._refused = 0
        is_known = self._requests.has(record.source, request.message_id.encode())
        if is_known or (progress is not None and progress.is_over):
            metrics.REQUESTS.labels("repeated").inc()
            self._requests.pass_over(record)
            return
        if self._requests.admits(request.priority):
            self._accept(record, request, progress, batch)
        else:
            self._requests.defer(record, request.priority)

    def readmit(self, record: Inbound, batch: ResultBatch) -> None:
        """Take a request in that has waited, for which there is room now."""
        request = read_request(record.value or b"")
        self._accept(record, request, self._known.get(record.partition, request.message_id.encode()), batch)

    def _accept(self, record: Inbound, request: CollectionRequest, known: RequestProgress | None, batch: ResultBatch) -> None:
        metrics.REQUESTS.labels("accepted" if known is None else "continued").inc()
        progress = known or RequestProgress(len(request.api_requests))
        ended = {index: progress.outcomes.get(index, CallOutcome()) for index in progress.ended}
        defaults = progress.defaults or dict(self._defaults.values())
        full = with_defaults(request, defaults)
        pending = PendingRequest(record, full, len(request.api_requests), ended)
        pending.defaults = {} if full is request else defaults
        items: list[WorkItem] = []
        for item in work_items(full, self._permitted):
            index = item.index
            if index in pending.ended:
                continue
            if isinstance(item, WorkItem):
                items.append(item)
            else:
                self._end_refused(pending, item, batch)
        self._requests.add(pending, items, progress)
        if self._requests.settle(pending):
            self._known.end(record.partition, pending.key)

    def _end_refused(self, pending: PendingRequest, item: RefusedItem, batch: ResultBatch) -> None:
        outcome = refused_outcome(item)
        pending.ended[item.index] = outcome.shortened()
        batch.add(pending, [refused_row(pending, item.index, outcome, int(self._now() * 1000))])
        batch.refuse(pending.record.source, letter_of_call(pending, item.index, ErrorCode.BAD_RECORD, item.reason))

    def _refuse(self, record: Inbound, error: RequestRefused | CodecError, batch: ResultBatch) -> None:
        self._refused += 1
        if self._refused > MOST_REFUSED_IN_A_ROW:
            raise DeadLetterLimit(
                f"{self._refused} messages of {record.topic} in a row are no requests; is topics.collection_requests the "
                "right topic?"
            )
        metrics.REQUESTS.labels("refused").inc()
        code = ErrorCode.BAD_JSON if isinstance(error, NotJson) else ErrorCode.BAD_RECORD
        batch.refuse(record.source, dead_message(STAGE, code, str(error), record))
        self._requests.pass_over(record)


def letter_of_call(pending: PendingRequest, index: int, code: ErrorCode, reason: str) -> DeadLetter:
    """Return the dead letter of one call: a request for this call only, with an id of its own, so that it can be sent again."""
    own = f"{pending.request.message_id[:100]}:{index}:again"
    call = pending.request.api_requests[index]
    request = msgspec.structs.replace(pending.request, message_id=own, api_requests=[call])
    return DeadLetter(
        stage=STAGE,
        code=code,
        reason=f"call {index} of request {pending.request.message_id}: {reason}",
        data=write_request(request),
        key=own.encode(),
        source={**coordinates(pending.record), "call": str(index)},
    )


def _check_key(record: Inbound, request: CollectionRequest) -> None:
    """Refuse a message whose key is not its id: only one partition knows whether an id has been seen."""
    if record.key != request.message_id.encode():
        raise RequestRefused("the key of the message must be its message_id; write it with this key")
