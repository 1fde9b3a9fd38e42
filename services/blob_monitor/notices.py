"""Parse a queue message from Event Grid into the blobs that were written. Pure: any text gives blobs or a problem.

The Event Grid schema and CloudEvents 1.0 use different names for the same fields. A message holds one event or an array, as
JSON or base64-encoded JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.common.messages.dead_letters import ErrorCode

_BOM: Final = b"\xef\xbb\xbf"
_CREATED: Final = "Microsoft.Storage.BlobCreated"
_ACCOUNT: Final = re.compile(r"/storageAccounts/([^/]+)/?$", re.IGNORECASE)
_SUBJECT: Final = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Notice:
    """A blob was written: created, replaced, or committed with a new block list."""

    account: str | None  # Azure's name for it; None: not given
    container: str
    name: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a message, or part of it, cannot be used."""

    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeReading:
    """The contents of a message."""

    notices: tuple[Notice, ...] = ()
    others: int = 0  # events about anything other than a written blob
    problem: Problem | None = None


class _EventNotice(msgspec.Struct, gc=False, rename="camel"):
    """An event in either schema."""

    event_type: str | None = None
    type: str | None = None
    topic: str | None = None
    source: str | None = None
    event_time: str | None = None
    time: str | None = None
    subject: str | None = None


_EVENT: Final = msgspec.json.Decoder(_EventNotice)
_EVENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_message(text: str) -> NoticeReading:
    """Parse a message; if part of an array is broken, the rest still counts."""
    try:
        found = [_read(event) for event in _events(text)]
    except (ValueError, RecursionError) as error:
        return NoticeReading(problem=Problem(ErrorCode.BAD_JSON, f"neither JSON nor base64-encoded JSON: {error}"))
    if not found:
        return NoticeReading(problem=Problem(ErrorCode.BAD_RECORD, "contains no event"))
    problems = [part for part in found if isinstance(part, Problem)]
    notices = tuple(part for part in found if isinstance(part, Notice))
    return NoticeReading(notices, len(found) - len(notices) - len(problems), problems[0] if problems else None)


def _events(text: str) -> Iterator[msgspec.Raw]:
    """Yield the events as JSON. Raises `ValueError` if the text is not JSON."""
    data = text.encode("utf-8", "surrogatepass").removeprefix(_BOM).strip()
    if data[:1] not in {b"{", b"["}:
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True).removeprefix(_BOM).strip()
        except binascii.Error as error:
            raise ValueError(str(error)) from error
    if data[:1] == b"[":
        yield from _EVENTS.decode(data)
    else:
        yield msgspec.json.decode(data, type=msgspec.Raw)


def _read(raw: msgspec.Raw) -> Notice | Problem | None:
    """Parse one event; None if it is about something else."""
    try:
        event = _EVENT.decode(raw)
    except (ValueError, RecursionError) as error:
        return Problem(ErrorCode.BAD_RECORD, f"not an event: {error}")
    kind = event.event_type or event.type
    if kind is None:
        return Problem(ErrorCode.BAD_RECORD, "not an event: it has neither eventType nor type")
    if kind != _CREATED:
        return None
    place = _SUBJECT.fullmatch(event.subject or "")
    if place is None:
        return Problem(ErrorCode.BAD_RECORD, f"the subject of this {kind} does not name a blob")
    account = _ACCOUNT.search(event.topic or event.source or "")
    return Notice(account and account[1], place[1], place[2], _time(event.event_time or event.time))


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else None
