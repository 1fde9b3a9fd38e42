"""Writes to a real queue, as Event Grid does: nothing in the project does so."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import urllib3

from libs.common.azure.storage.credentials import StorageRequest, resolve_queues
from libs.common.settings.storage import EventQueue, StorageAccount


@dataclass(frozen=True, slots=True)
class QueueWriter:
    """One queue of an account."""

    storage: StorageAccount
    name: str
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=8))

    @property
    def settings(self) -> EventQueue:
        """What the settings of an environment say of it."""
        return EventQueue(queue=self.name)

    def create(self) -> None:
        """Make the queue."""
        self._send("PUT", f"/{self.name}")

    def put(self, text: str) -> None:
        """Add a message."""
        self._send(
            "POST", f"/{self.name}/messages", body=f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>"
        )

    def close(self) -> None:
        """Close connections."""
        self.pool.clear()

    def count(self) -> int:
        """Return how many messages there are, hidden ones too."""
        headers = self._send("GET", f"/{self.name}", {"comp": "metadata"})
        return int(headers["x-ms-approximate-messages-count"])

    def _send(self, method: str, path: str, query: dict[str, str] | None = None, body: str = "") -> urllib3.HTTPHeaderDict:
        login = resolve_queues(self.storage, "test", None)
        data = body.encode()
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
        if data:
            headers |= {"Content-Length": str(len(data)), "Content-Type": "application/xml"}
        request = StorageRequest(method, login.endpoint.path + path, query or {}, headers)
        login.authoriser.authorise(request)
        url = f"{login.endpoint.origin}{request.path}?{urlencode(request.query)}"
        answer = self.pool.request(method, url, headers=request.headers, body=data or None)
        assert 200 <= answer.status < 300, (answer.status, answer.data)
        return answer.headers


def settings_of(queue: QueueWriter) -> dict[str, Any]:
    """Return what the settings of the collector say of a queue."""
    secret = queue.storage.connection_string
    assert secret is not None
    return {"queue": queue.name, "storage": {"connection_string": secret.get_secret_value()}}
