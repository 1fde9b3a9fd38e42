"""`storage.api.WorkQueue` on Azure Queue Storage, over REST like the operations on blobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from libs.common.azure.retry import RetryPolicy
from libs.common.azure.storage.api import QueueMessage, Receipt, StorageError, StorageRefused, WorkQueue
from libs.common.azure.storage.credentials import StorageRequest, resolve, resolve_queues
from libs.common.azure.storage.failures import Refused
from libs.common.azure.storage.page import parse_xml
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.settings.storage import EventQueue, StorageAccount

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from libs.common.azure.storage.rest import QueueService, Response

MOST_MESSAGES: Final = 32  # per request; the maximum that storage allows
_CHECK_SECONDS: Final = 3.0


def open_queue(account: StorageAccount, alias: str, events: EventQueue) -> WorkQueue:
    """Return the queue of the environment `alias`; no request is sent yet. Threads may share it.

    Raises:
        ConfigError: if the settings cannot work, or the extra ``azure`` is not installed.
    """
    return AzureQueue(_service(account, alias, events, RetryPolicy()), events.queue)


def check_queue(account: StorageAccount, alias: str, events: EventQueue) -> None:
    """Peek at one message, to check URL, credentials and queue.

    Raises:
        ConfigError: if the settings cannot work or the queue does not exist.
        ServerUnreachable: if storage refuses or does not answer within seconds.
    """
    queue = AzureQueue(_service(account, alias, events, RetryPolicy(deadline=_CHECK_SECONDS)), events.queue)
    try:
        queue.peek()
    except Refused as error:
        raise ServerUnreachable(str(error)) from error
    except StorageRefused as error:
        raise ConfigError(str(error)) from error
    except StorageError as error:
        raise ServerUnreachable(str(error)) from error
    finally:
        queue.close()


def queue_address(account: StorageAccount, alias: str, events: EventQueue) -> str:
    """Return the URL of the queue, which identifies settings for the same queue. Raises `ConfigError`."""
    endpoint = resolve_queues(account, alias, events.service_url).endpoint
    return f"{endpoint.origin}{endpoint.path}/{events.queue}"


def account_name(account: StorageAccount, alias: str) -> str | None:
    """Return the name of the storage account in events; None if the settings do not reveal it. Raises `ConfigError`."""
    return resolve(account, alias).account


def _service(account: StorageAccount, alias: str, events: EventQueue, policy: RetryPolicy) -> QueueService:
    try:
        from libs.common.azure.storage.rest import QueueService
    except ModuleNotFoundError as error:
        raise ConfigError(f"reading queues needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    return QueueService(partial(resolve_queues, account, alias, events.service_url), alias, policy)


class AzureQueue:
    """One queue."""

    def __init__(self, service: QueueService, name: str) -> None:
        self._service = service
        self._path = f"/{name}/messages"

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Return up to `most` messages, oldest first, and hide them from other readers for some time."""
        query = {"numofmessages": str(min(most, MOST_MESSAGES)), "visibilitytimeout": str(hidden_seconds)}
        return self._service.send(StorageRequest("GET", self._path, query), _messages)

    def peek(self) -> None:
        """Peek at the first message."""
        self._service.send(StorageRequest("GET", self._path, {"peekonly": "true", "numofmessages": "1"}), _elements)

    def delete(self, receipt: Receipt) -> None:
        """Delete a message. Raises `MessageGone` if it is no longer ours."""
        self._service.send(StorageRequest("DELETE", self._message_path(receipt), {"popreceipt": receipt.pop}), lambda _: None)

    def extend(self, receipt: Receipt, hidden_seconds: int) -> Receipt:
        """Hide a message for this time from now on; only the new receipt is valid. Raises `MessageGone` if it is not ours."""
        query = {"popreceipt": receipt.pop, "visibilitytimeout": str(hidden_seconds)}
        request = StorageRequest("PUT", self._message_path(receipt), query)  # without a body, the text stays as it is
        return self._service.send(request, lambda response: Receipt(receipt.message, response.headers["x-ms-popreceipt"]))

    def put(self, text: str) -> None:
        """Add a message, which does not expire. A retry after a lost response may add it twice."""
        body = f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>".encode()
        self._service.send(StorageRequest("POST", self._path, {"messagettl": "-1"}, body=body), lambda _: None)

    def close(self) -> None:
        """Close connections."""
        self._service.close()

    def _message_path(self, receipt: Receipt) -> str:
        return f"{self._path}/{quote(receipt.message, safe='')}"


def _elements(response: Response) -> list[Element]:
    return parse_xml(response.body, "QueueMessagesList").findall("QueueMessage")


def _messages(response: Response) -> list[QueueMessage]:
    return [_message(element) for element in _elements(response)]


def _message(element: Element) -> QueueMessage:
    fields = {child.tag: child.text or "" for child in element}
    receipt = Receipt(fields["MessageId"], fields["PopReceipt"])
    return QueueMessage(receipt, fields.get("MessageText", ""), int(fields["DequeueCount"]))
