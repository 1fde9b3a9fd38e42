"""Operations of Azure Resource Manager that take long: where their state and their result are. Pure.

An operation is accepted with 202 (or 201, or 200) and a header: `Azure-AsyncOperation` names a URL that tells the state in its
body, `Location` one that answers 202 until there is a result. The former counts if both are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import msgspec

from libs.common.azure.arm.api import ArmCall, ArmIncomplete, ArmRefused, ArmResponse
from libs.common.azure.arm.client import first_request
from libs.common.azure.arm.failures import refusal_of, retry_after
from libs.common.azure.host import HostResponse
from libs.common.http.method import Method

MOST_POLLS: Final = 2_000
_ACCEPTED: Final = 202
_DEFAULT_SECONDS: Final = 10.0
_ENDED_BADLY: Final = frozenset({"failed", "canceled", "cancelled"})
_ENDED_WELL: Final = "succeeded"

ToTarget = Callable[[str], str]
"""Returns path and query of a URL; raises `ArmIncomplete` if it leads elsewhere."""


class StateIn(StrEnum):
    """Where the state of an operation is told."""

    BODY = "body"  # Azure-AsyncOperation
    STATUS = "status"  # Location


@dataclass(frozen=True, slots=True)
class ArmOperation:
    """An operation that was accepted.

    Attributes:
        target: path and query of its state.
        result: path and query of its result; empty if the last answer about the state is the result.
        polls: how often it was asked for.
    """

    state_in: StateIn
    target: str = field(repr=False)
    result: str = field(default="", repr=False)
    polls: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """It is not over; ask again `after` seconds."""

    operation: ArmOperation
    after: float


@dataclass(frozen=True, slots=True)
class ResultAt:
    """It is over; its result is at another place."""

    target: str


class _State(msgspec.Struct):
    status: str = ""


_state: Final = msgspec.json.Decoder(_State)


def operation_after(
    call: ArmCall, operation: ArmOperation | None, response: ArmResponse, target_of: ToTarget
) -> Running | ResultAt | None:
    """Return what a response says about an operation; None if it is the result, or there is no operation.

    Raises:
        ArmRefused: if the operation failed or was cancelled.
        ArmIncomplete: if it does not end.
    """
    if operation is None:
        return _accepted(call, response, target_of)
    if operation.polls >= MOST_POLLS:
        raise ArmIncomplete(f"{call.method} {call.path[:300]}: the operation does not end; it was asked for {MOST_POLLS} times")
    is_over = response.status != _ACCEPTED if operation.state_in is StateIn.STATUS else _is_over(call, response)
    if is_over:
        return ResultAt(operation.result) if operation.result else None
    moved = response.headers.get("Location") if operation.state_in is StateIn.STATUS else None
    target = target_of(moved) if moved else operation.target
    return Running(replace(operation, target=target, polls=operation.polls + 1), _pause(response))


def _accepted(call: ArmCall, response: ArmResponse, target_of: ToTarget) -> Running | None:
    state, place = response.headers.get("Azure-AsyncOperation"), response.headers.get("Location")
    if state:
        own = first_request(replace(call, method=Method.GET, body=None)).target if call.method is Method.PUT else ""
        result = target_of(place) if place and call.method is Method.POST else own
        return Running(ArmOperation(StateIn.BODY, target_of(state), result), _pause(response))
    if place and response.status == _ACCEPTED:
        return Running(ArmOperation(StateIn.STATUS, target_of(place)), _pause(response))
    return None


def _is_over(call: ArmCall, response: ArmResponse) -> bool:
    try:
        status = _state.decode(response.body).status.lower() if response.body.strip() else ""
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArmRefused(
            f"{call.method} {call.path[:300]}: the state of the operation is not as documented: {error}"
        ) from error
    if status in _ENDED_BADLY:
        refusal = refusal_of(HostResponse(response.status, response.headers, response.body))
        raise ArmRefused(f"{call.method} {call.path[:300]}: the operation {status}: {refusal}", refusal)
    return status == _ENDED_WELL


def _pause(response: ArmResponse) -> float:
    asked = retry_after(response.headers)
    return _DEFAULT_SECONDS if asked is None else asked
