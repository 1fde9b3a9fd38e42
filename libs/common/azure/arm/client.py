"""One exchange with Azure Resource Manager: signed in, in its turn, repeated where that helps, failures translated.

A request waits for its turn and between attempts, but only for seconds: longer waits are the caller's, who has other work, for
other subscriptions for example. Neither headers nor bodies are logged or quoted, apart from Azure's own code and message.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import urlencode

from libs.common.azure.arm import metrics
from libs.common.azure.arm.api import ArmCall, ArmRefused, ArmResponse, ArmUnavailable
from libs.common.azure.arm.buckets import Buckets, Quota, Subject
from libs.common.azure.arm.failures import THROTTLED, arm_failure, retry_after
from libs.common.azure.challenges import demanded_claims
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.host import AzureHost, ExchangeBroken, HostResponse, NoConnection, Outgoing
from libs.common.azure.identity import NoToken
from libs.common.azure.retry import Retrier, RetryPolicy, Transient
from libs.common.http.method import Method
from libs.common.work.room import RoomShare

MOST_BYTES: Final = 16_777_216
"""Of a response. Azure's own pages are smaller: Resource Graph ends a page at 16 MiB, and lists at some hundred resources."""

POLICY: Final = RetryPolicy(deadline=15.0, first_wait=0.5, longest_wait=5.0)
_LONGEST_TURN: Final = 2.0  # that a call waits here for its turn
_REFUSED_PAUSE: Final = 5.0  # after a 429 that does not say how long
_SERVER_ERRORS: Final = 500
_TOO_MANY: Final = 429
_READ_SECONDS: Final = 60.0
_SIGN_IN_AGAIN: Final = frozenset({401, 403})
_SUBSCRIPTION: Final = re.compile(r"(?i)/subscriptions/([^/?]+)")
_QUOTAS: Final = {Method.GET: Quota.READS, Method.DELETE: Quota.DELETES}


class Tokens(Protocol):
    """Where bearer tokens come from: an `Identity` for the scope of Azure Resource Manager."""

    def token(self) -> str:
        """Return a valid token. Raises `NoToken`."""

    def renewed(self, refused: str, claims: str | None = None) -> str | None:
        """Return another token than the one refused; None if there is none. Raises `NoToken`."""


@dataclass(frozen=True, slots=True)
class ArmRequest:
    """What is sent.

    Attributes:
        target: path and query, percent-encoded.
        subject: whose quota it uses.
        continues: whether it asks for a further page, whose link may have expired.
        is_repeatable: whether sending it twice does no harm.
        share: of the memory for answers; see `Outgoing`.
    """

    method: Method
    target: str
    subject: Subject
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    continues: bool = False
    is_repeatable: bool = True
    share: RoomShare | None = field(default=None, repr=False, compare=False)

    @property
    def shown(self) -> str:
        """What errors call it: without the query, which may hold the token of a page."""
        return f"{self.method} {self.target.partition('?')[0][:300]}"


def first_request(call: ArmCall) -> ArmRequest:
    """Return the request that begins a call."""
    headers = dict(call.headers)
    if call.body is not None:
        headers["content-type"] = "application/json"
    target, is_repeatable = f"{call.path}?{urlencode(call.query)}", call.reads_only or call.method is not Method.POST
    return ArmRequest(call.method, target, subject_of(call), headers, call.body, is_repeatable=is_repeatable)


def following_request(call: ArmCall, target: str, *, continues: bool) -> ArmRequest:
    """Return the request for what follows, at a `target` that Azure named: a further page, or the state of an operation."""
    subject = Subject(_subscription_of(call), Quota.READS)
    headers = {name: value for name, value in call.headers if name != "if-match"}
    return ArmRequest(Method.GET, target, subject, headers, continues=continues)


def subject_of(call: ArmCall) -> Subject:
    """Return whose quota the first request of a call uses."""
    if call.is_graph_query:
        return Subject("", Quota.GRAPH)
    return Subject(_subscription_of(call), _QUOTAS.get(call.method, Quota.WRITES))


def _subscription_of(call: ArmCall) -> str:
    found = _SUBSCRIPTION.match(call.path)
    return found[1].lower() if found else ""


class ArmClient:
    """The API of one cloud. Thread-safe; opens connections when first used."""

    def __init__(
        self,
        endpoint: Endpoint,
        tokens: Tokens,
        policy: RetryPolicy = POLICY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self._tokens = tokens
        self._policy = policy
        self._clock = clock
        self._buckets = Buckets(clock)
        self._host = AzureHost(endpoint, "azure", "Azure Resource Manager", clock, _READ_SECONDS)
        self._closing = threading.Event()

    def send(self, request: ArmRequest) -> ArmResponse:
        """Return the response to `request`.

        Raises:
            ArmGone, ArmRefused, PageExpired: repeating it is useless.
            ArmUnavailable: Azure does not answer, or the wait would be too long; says when to try again.
        """
        waits = _Waits(self._closing)
        retrier = Retrier(self._policy, waits.wait, ArmUnavailable, metrics.RETRIES.inc, self._clock)
        response = retrier.call(lambda: self._attempt(request, waits))
        return replace(response, waited=waits.seconds)

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the client is closing."""
        return self._closing.wait(seconds)

    def close(self) -> None:
        """End waits and close idle connections."""
        self._closing.set()
        self._host.close()

    def _attempt(self, request: ArmRequest, waits: _Waits) -> ArmResponse:
        self._take_turn(request, waits)
        token = self._token(request)
        response = self._exchange(request, token)
        if response.status in _SIGN_IN_AGAIN:
            response = self._signed_in_again(request, token, response)
        self._learn(request.subject, response)
        if not response.is_success:
            failure = arm_failure(request.shown, response, continues=request.continues)
            if isinstance(failure, Transient) and response.status not in THROTTLED:
                raise _repeated(request, failure)
            raise failure
        return ArmResponse(response.status, response.headers, response.body)

    def _learn(self, subject: Subject, response: HostResponse) -> None:
        pause = retry_after(response.headers)
        if response.status == _TOO_MANY or (response.status in THROTTLED and pause is not None):
            self._buckets.throttled(subject, response.headers, _REFUSED_PAUSE if pause is None else pause)
        elif response.status < _SERVER_ERRORS:
            self._buckets.answered(subject, response.headers)

    def _take_turn(self, request: ArmRequest, waits: _Waits) -> None:
        patience = min(_LONGEST_TURN, self._policy.deadline)
        seconds = self._buckets.reserve(request.subject, patience)
        if seconds > patience:
            raise ArmUnavailable(f"{request.shown}: it is not its turn for {seconds:.0f} s", after=seconds)
        if seconds > 0 and waits.wait(seconds):
            raise ArmUnavailable(f"{request.shown}: closing")

    def _token(self, request: ArmRequest) -> str:
        try:
            return self._tokens.token()
        except NoToken as error:
            raise Transient(f"{request.shown}: {error}") from error

    def _signed_in_again(self, request: ArmRequest, token: str, response: HostResponse) -> HostResponse:
        """Repeat a request once with a new token, if there is one."""
        try:
            other = self._tokens.renewed(token, demanded_claims(response.headers))
        except NoToken:
            return response
        return response if other is None else self._exchange(request, other)

    def _exchange(self, request: ArmRequest, token: str) -> HostResponse:
        own = {"Accept": "application/json", "User-Agent": "blobtide", "Authorization": f"Bearer {token}"}
        headers = {**request.headers, **own}
        outgoing = Outgoing(request.method, request.target, headers, MOST_BYTES, request.body, request.share)
        try:
            response = self._host.exchange(outgoing)
        except NoConnection as error:
            metrics.REQUESTS.labels("none").inc()
            raise Transient(f"{request.shown}: {error}") from error
        except ExchangeBroken as error:
            metrics.REQUESTS.labels("none").inc()
            raise _repeated(request, Transient(f"{request.shown}: {error}")) from error
        metrics.REQUESTS.labels(f"{response.status // 100}xx").inc()
        return response


def _repeated(request: ArmRequest, failure: Transient) -> ArmRefused | Transient:
    """Return the failure of a request that may have had its effect: one that must not be sent twice is given up."""
    if request.is_repeatable:
        return failure
    return ArmRefused(f"{failure}; it is not repeated, because Azure may have done it already")


class _Waits:
    """The waits of one call, which end when the client closes."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self.seconds = 0.0

    def wait(self, seconds: float) -> bool:
        """Wait; return whether the client is closing."""
        self.seconds += seconds
        metrics.WAITED.inc(seconds)
        return self._closing.wait(seconds)
