"""What becomes of a message of the queue: a request for `Collection.Requests`, or a dead letter."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from libs.common.azure.storage.api import QueueMessage
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.collector import RequestQueue
from libs.common.settings.kafka import TopicSettings
from services.collector.intake import STAGE
from services.collector.requests.schema import NotJson, RequestRefused, read_request


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """A message that is hidden from other collectors, and the record that it becomes."""

    message: QueueMessage
    record: Outbound
    code: ErrorCode | None = None  # why the record is a dead letter


@dataclass(frozen=True, slots=True)
class MessageReading:
    """Reads messages of one queue. They are in the form of the Azure Cloud Collector: a request as JSON, possibly in base64."""

    settings: RequestQueue
    topics: TopicSettings

    def held(self, message: QueueMessage) -> HeldMessage:
        """Return what becomes of `message`; if it was received too often, a dead letter, whatever it contains."""
        data = _content(message.text)
        if message.deliveries > self.settings.max_deliveries:
            reason = f"received {message.deliveries} times, but never handled"
            return self._dead(message, data, ErrorCode.UNHANDLED, reason)
        try:
            request = read_request(data)
        except RequestRefused as error:
            code = ErrorCode.BAD_JSON if isinstance(error, NotJson) else ErrorCode.BAD_RECORD
            return self._dead(message, data, code, str(error))
        return HeldMessage(message, Outbound(self.topics.collection_requests, data, request.message_id.encode()))

    def _dead(self, message: QueueMessage, data: bytes, code: ErrorCode, reason: str) -> HeldMessage:
        source = {"queue": self.settings.queue, "message": message.receipt.message}
        letter = DeadLetter(STAGE, code, reason, data, source=source)
        return HeldMessage(message, Outbound(self.topics.errors, letter.data, letter.key, letter.headers()), code)


def _content(text: str) -> bytes:
    """Return the content of a message, which some clients write as base64."""
    data = text.encode("utf-8", "surrogatepass")
    if data.lstrip()[:1] == b"{":
        return data
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return data
