"""What Event Grid says in one message of a queue: the blobs that were written. Pure: any text gives blobs or a problem.

The schemas of Event Grid and of CloudEvents 1.0 name the same things differently; a message holds one event or an array, as
JSON or that in base64.
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
    """A blob was written: made, replaced, or given another block list."""

    account: str | None  # as Azure names it; None: not said
    container: str
    name: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a message, or a part of it, says nothing."""

    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What is in a message."""

    notices: tuple[Notice, ...] = ()
    others: int = 0  # events that are not about a blob that was written
    problem: Problem | None = None


class _Event(msgspec.Struct, gc=False, rename="camel"):
    """An event in either schema."""

    event_type: str | None = None
    type: str | None = None
    topic: str | None = None
    source: str | None = None
    event_time: str | None = None
    time: str | None = None
    subject: str | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_EVENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_message(text: str) -> Reading:
    """Return what a message says; of an array that is broken in part, what the rest says, too."""
    try:
        found = [_read(event) for event in _events(text)]
    except (ValueError, RecursionError) as error:
        return Reading(problem=Problem(ErrorCode.BAD_JSON, f"neither JSON nor JSON in base64: {error}"))
    if not found:
        return Reading(problem=Problem(ErrorCode.BAD_RECORD, "no event in it"))
    problems = [part for part in found if isinstance(part, Problem)]
    notices = tuple(part for part in found if isinstance(part, Notice))
    return Reading(notices, len(found) - len(notices) - len(problems), problems[0] if problems else None)


def _events(text: str) -> Iterator[msgspec.Raw]:
    """Yield the events as JSON. Raises `ValueError` where there is none."""
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
    """Return what one event says; None if it is about something else."""
    try:
        event = _EVENT.decode(raw)
    except (ValueError, RecursionError) as error:
        return Problem(ErrorCode.BAD_RECORD, f"no event: {error}")
    kind = event.event_type or event.type
    if kind is None:
        return Problem(ErrorCode.BAD_RECORD, "no event: neither eventType nor type is there")
    if kind != _CREATED:
        return None
    place = _SUBJECT.fullmatch(event.subject or "")
    if place is None:
        return Problem(ErrorCode.BAD_RECORD, f"{kind} whose subject names no blob")
    account = _ACCOUNT.search(event.topic or event.source or "")
    return Notice(account and account[1], place[1], place[2], _time(event.event_time or event.time))


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else None
