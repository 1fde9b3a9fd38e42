"""Find the resources in an answer. Pure.

Only plain answers to GET count: a query, or parameters that filter or expand, show resources in other ways, and so would make
every resource look changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from libs.common.azure.arm.api import ArmCall
from libs.common.azure.arm.pages import Page
from libs.common.http.method import Method
from libs.common.messages.resources import NOTHING, PRESENT, ResourceFacts
from services.collector.comparing import Comparison

_ID: Final = re.compile(r"(?:/[^/\x00-\x1f\x7f]{1,300}){2,40}")
_IN_ID: Final = re.compile(r"(?i)/subscriptions/([^/]+)(?:/resourcegroups/([^/]+))?")


class _Element(msgspec.Struct):
    id: str
    type: str
    name: str | None = None
    location: str | None = None
    tags: dict[str, Any] | None = None
    properties: msgspec.Raw = NOTHING


class _List(msgspec.Struct):
    value: list[msgspec.Raw]


_element: Final = msgspec.json.Decoder(_Element)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final = msgspec.json.Decoder(_List)


@dataclass(frozen=True, slots=True)
class SeenPage:
    """The resources in an answer, with the time at which they are seen as both times; and whether it is a page of a list."""

    resources: tuple[ResourceFacts, ...]
    is_list: bool


def resources_in(call: ArmCall, page: Page, comparison: Comparison, now_ms: int) -> SeenPage:
    """Return the resources in an answer to `call`, with hashes of what counts in a `comparison`."""
    if call.method is not Method.GET or len(call.query) != 1:
        return SeenPage((), is_list=False)
    try:
        elements, is_list = _list.decode(page.body).value, True
    except (msgspec.MsgspecError, RecursionError):
        elements, is_list = [msgspec.Raw(page.body)], False
    version = call.query[0][1]
    return SeenPage(tuple(_resources(elements, comparison, version, now_ms)), is_list)


def _resources(elements: list[msgspec.Raw], comparison: Comparison, version: str, now_ms: int) -> Iterator[ResourceFacts]:
    for raw in elements:
        try:
            element = _element.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            continue  # not a resource
        if _ID.fullmatch(element.id):
            facts = _facts(element, version, now_ms)
            yield msgspec.structs.replace(facts, other=_other(raw), content_hash=comparison.hash_of(bytes(raw)))


def _facts(element: _Element, version: str, now_ms: int) -> ResourceFacts:
    subscription, group = place_of(element.id)
    return ResourceFacts(
        id=element.id,
        time=now_ms,
        first_seen=now_ms,
        last_seen=now_ms,
        api_version=version,
        type=element.type,
        state=PRESENT,
        name=element.name,
        location=element.location,
        resource_group=group,
        subscription=subscription,
        tags=element.tags or None,
        properties=element.properties,
    )


def _other(raw: msgspec.Raw) -> msgspec.Raw:
    """Return the members that have no column of their own, as a JSON object; empty if there are none."""
    members = {name: value for name, value in _members.decode(raw).items() if name not in _Element.__struct_fields__}
    return msgspec.Raw(msgspec.json.encode(members)) if members else NOTHING


def place_of(resource_id: str) -> tuple[str | None, str | None]:
    """Return subscription and resource group of a resource, as far as its id has them."""
    found = _IN_ID.match(resource_id)
    return (found[1], found[2]) if found else (None, None)


def type_listed_by(path: str) -> str:
    """Return the type of the resources in the list at `path`, such as ``microsoft.compute/virtualmachines``; lower case."""
    namespace, *rest = path.rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])
