"""Ask a source once, and judge its answer. Everything that a source can do wrong is a value here; nothing of it is raised."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from libs.common.errors import ConfigError, Retry
from libs.common.expressions import compiled
from libs.common.http.client import Answer, AnswerTime, Cluster, HttpClient, Request, Tls
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.events import SourceState
from libs.common.security.redaction import excerpt
from libs.common.security.transport import guard_addresses
from libs.common.settings.recorder import HttpSourceSettings, Unchanged
from services.recorder.records import AnswerRefused, RecordForm

_REDIRECTS: Final = 5
_SHOWN: Final = 200
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_MARK: Final = re.compile(r"[\x20-\x7e]{0,1000}")
_JSON: Final = {"Content-Type": "application/json"}
_ADVICE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "; it denies the sign-in",
    HTTPStatus.FORBIDDEN: "; it denies the right to read this",
    HTTPStatus.NOT_FOUND: "; check url and path",
    HTTPStatus.METHOD_NOT_ALLOWED: "; check path and method",
}


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is known of an answer besides its content.

    Attributes:
        asked_ms: when the source was asked, in milliseconds since 1970.
        took_us: microseconds from the request to the end of the answer.
        size: length of the answer in bytes, as far as it was read.
    """

    asked_ms: int
    took_us: int
    status: int
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An answer to record. `etag` and `last_modified` are empty if it has none."""

    facts: AnswerFacts
    records: tuple[bytes, ...]
    answer_hash: str
    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    """An answer of which no record can be made; `omitted` is how many bytes `data` lacks, as far as the source said."""

    facts: AnswerFacts
    code: ErrorCode
    reason: str
    data: bytes
    omitted: int = 0


HeldAnswer: TypeAlias = Snapshot | RefusedAnswer
"""What is written to Kafka."""


@dataclass(frozen=True, slots=True)
class UnchangedAnswer:
    """The answer is the one that was recorded last."""

    facts: AnswerFacts


@dataclass(frozen=True, slots=True)
class FailedPoll:
    """There is no answer to record; the source does not want to be asked again for `after` seconds."""

    reason: str
    after: float = 0.0


PollOutcome: TypeAlias = HeldAnswer | UnchangedAnswer | FailedPoll


@dataclass(frozen=True, slots=True)
class PollClock:
    """Milliseconds since 1970, and monotonic seconds."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic: Callable[[], float] = time.monotonic


class HttpPoller:
    """Asks one source. Belongs to one thread at a time; nothing is sent before `ask`."""

    def __init__(self, source: HttpSourceSettings, clock: PollClock) -> None:
        """Read the secrets once, so that wrong settings are found at the start.

        Raises:
            ConfigError: a secret or file cannot be read, credentials would be sent unencrypted without permission, or `items`
                is no expression.
        """
        self.source = source
        self._clock = clock
        self._form = RecordForm(source.wrap, compiled(source.items) if source.items else None)
        self._request({})
        source.check_files()
        signs_in = bool(source.sign_in() or source.param_files)
        guard_addresses(f"source {source.name}", (source.url,), source, signs_in=signs_in)
        tls = Tls(source.verify, source.ca_file, source.cert_file, source.key_file)
        self._client = HttpClient(Cluster((source.url,), {}, tls, source.timeout_seconds, 1, AnswerTime.WHOLE), clock.monotonic)

    def ask(self, last: SourceState | None) -> PollOutcome:
        """Ask the source; `last` says what was recorded of it before."""
        asked_ms, began = self._clock.now_ms(), self._clock.monotonic()
        known = last if self.source.unchanged is Unchanged.SKIP else None
        try:
            answer = self._client.send(self._request(_conditions(known)))
        except Retry as error:
            return FailedPoll(str(error), error.after)
        except ConfigError as error:  # a certificate, or a file with a secret that was there at the start
            return FailedPoll(str(error))
        took = round((self._clock.monotonic() - began) * 1_000_000)
        return self._judge(answer, AnswerFacts(asked_ms, took, answer.status, len(answer.body)), known)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _request(self, conditions: Mapping[str, str]) -> Request:
        """Return the request. Secrets in files are read for each: they may be rotated. Raises `ConfigError`."""
        source = self.source
        headers = {**(_JSON if source.body else {}), **source.headers, **source.sign_in(), **conditions}
        body = source.body.encode() if source.body else None
        return Request(source.method.value, source.path + source.query(), body, headers, _REDIRECTS, source.max_bytes)

    def _judge(self, answer: Answer, facts: AnswerFacts, known: SourceState | None) -> PollOutcome:
        status = answer.status
        if status == HTTPStatus.NOT_MODIFIED and _conditions(known):
            return UnchangedAnswer(facts)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            said = excerpt(answer.body, _SHOWN)
            reason = f"{self.source.address} answers {status}{_ADVICE.get(status, '')}{said and f': {said}'}"
            return FailedPoll(reason, answer.retry_after or 0.0)
        if answer.is_cut:
            reason = f"the answer is larger than max_bytes ({self.source.max_bytes})"
            return RefusedAnswer(facts, ErrorCode.TOO_LARGE, reason, answer.body, _omitted(answer))
        digest = hashlib.sha256(answer.body).hexdigest()
        if known is not None and digest == known.answer_hash:
            return UnchangedAnswer(facts)
        try:
            records = tuple(self._form.records(answer.body, facts.asked_ms))
        except AnswerRefused as error:
            return RefusedAnswer(facts, error.code, str(error), answer.body)
        etag, modified = (_mark(answer, name) for name in ("ETag", "Last-Modified"))
        return Snapshot(facts, records, digest, etag, modified)


def _conditions(known: SourceState | None) -> dict[str, str]:
    """Return the headers that ask for the answer only if it has changed."""
    if known is None:
        return {}
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in conditions.items() if value}


def _mark(answer: Answer, name: str) -> str:
    """Return a header that is sent back with later requests; empty if there is none of a sensible form."""
    value = answer.headers.get(name, "")
    return value if _MARK.fullmatch(value) else ""


def _omitted(answer: Answer) -> int:
    stated = answer.headers.get("Content-Length", "")
    return max(0, int(stated) - len(answer.body)) if _LENGTH.fullmatch(stated) else 0
