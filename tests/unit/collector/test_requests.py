"""Requests for configuration: what is one, and which calls come of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from libs.common.http.method import Method
from libs.common.settings.collector import Priority
from services.collector.requests.items import RefusedItem, WorkItem, work_items
from services.collector.requests.schema import (
    MOST_BYTES,
    CollectionRequest,
    RequestRefused,
    read_request,
    request_schema,
    write_request,
)
from services.collector.requests.templates import TEMPLATES, example_requests

PATH = "/subscriptions/{subscriptionId}/providers/Microsoft.Compute/virtualMachines"
CALL: dict[str, Any] = {
    "service": "compute",
    "api_version": "2024-07-01",
    "resource_path": PATH,
    "parameters": {"subscriptionId": "s-1"},
}


def message(*calls: dict[str, Any], **more: Any) -> bytes:
    """Return a request with these members of calls, beside those that every call has."""
    return msgspec.json.encode({"message_id": "m-1", "api_requests": [CALL | call for call in calls or ({},)], **more})


def items(*calls: dict[str, Any], permitted: frozenset[Method] = frozenset()) -> list[WorkItem | RefusedItem]:
    """Return what comes of these calls."""
    return list(work_items(read_request(message(*calls)), permitted))


def only(call: dict[str, Any], permitted: frozenset[Method] = frozenset()) -> WorkItem:
    """Return the item of a call that can be made."""
    (item,) = items(call, permitted=permitted)
    assert isinstance(item, WorkItem), item
    return item


def reason(call: dict[str, Any]) -> str:
    """Return why a call cannot be made."""
    (item,) = items(call)
    assert isinstance(item, RefusedItem), item
    return item.reason


def test_the_message_of_the_azure_cloud_collector_is_a_request() -> None:
    """The example in its document is understood, with the version that the original ignored."""
    text = """{
        "message_id": "uuid-string",
        "correlation_id": "optional-correlation-id",
        "api_requests": [{
            "service": "compute", "api_version": "2023-07-01", "method": "GET",
            "resource_path": "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroup}/providers/Microsoft.Compute/virtualMachines/{vmName}",
            "parameters": {"subscriptionId": "your-subscription-id", "resourceGroup": "your resource-group", "vmName": "ein-name-für-vm"},
            "query_params": {}, "headers": {}
        }],
        "timestamp": "2024-01-17T00:00:00Z"
    }"""  # noqa: E501 - as it stands there
    request = read_request(text.encode())
    assert (request.correlation_id, request.priority) == ("optional-correlation-id", Priority.NORMAL)
    assert read_request(write_request(request)) == request
    (item,) = work_items(request)
    assert isinstance(item, WorkItem)
    assert item.call.path == (
        "/subscriptions/your-subscription-id/resourceGroups/your%20resource-group/providers/Microsoft.Compute/virtualMachines"
        "/ein-name-f%C3%BCr-vm"
    )
    assert item.call.query == (("api-version", "2023-07-01"),)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"message_id":"' + b"\xff" + b'"}', "not JSON"),
        (message(metadata={"a": None}).replace(b"null", b"[" * 100_000 + b"]" * 100_000), "not JSON"),
        (b" " * (MOST_BYTES + 1), "divide it"),
        (b"[]", "got `array`"),
        (b'{"message_id":"m"}', "`api_requests`"),
        (message().replace(b'"m-1"', b'"../m"'), "at `message_id`"),
        (message().replace(b'"m-1"', b'"m\\n"'), "at `message_id`"),
        (message({"api_version": "2024"}), "at `api_requests[0].api_version`"),
        (message({}, {"query": {}}), "unknown field `query` - at `api_requests[1]`"),
        (message({"method": "HEAD"}), "`api_requests[0].method`"),
        (message({"parameters": {"a b": 1}}), "`api_requests[0].parameters"),
        (message(priority="urgent"), "at `priority`"),
        (message(timestamp="yesterday"), "at `timestamp`"),
        (message(api_requests=[]), "at `api_requests`"),
    ],
)
def test_a_message_that_is_no_request_is_refused_with_the_place(data: bytes, said: str) -> None:
    """The reason names the member, and shows no values."""
    with pytest.raises(RequestRefused) as refused:
        read_request(data)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"parameters": {}}, "parameters: no value for {subscriptionId}"),
        ({"parameters": {"subscription": "s"}}, "no value for {subscriptionId}; did you mean subscription?"),
        ({"parameters": {"subscriptionId": "s", "vm": "v"}}, "parameters: vm is no placeholder"),
        ({"parameters": {"subscriptionId": ""}}, "is empty"),
        *(
            ({"parameters": {"subscriptionId": bad}}, "parameters.subscriptionId: must not")
            for bad in ("a/b", "a\\b", "%2e", "a\n")
        ),
        ({"parameters": {"subscriptionId": ".."}}, "a segment consists of dots"),
        ({"resource_path": "/{a}{a}", "parameters": {"a": "."}}, "a segment consists of dots"),
        ({"resource_path": "/{a}", "parameters": {"a": "ü" * 1_900}}, "longer than"),
        *(
            ({"resource_path": bad, "parameters": {}}, "resource_path: must be segments")
            for bad in (
                "x/y",
                "//host/x",
                "https://host/x",
                "/a?b=c",
                "/a#b",
                "/a%2Fb",
                "/a//b",
                "/a/",
                "/a\\b",
                "/ä",
                "/{1}",
                "/{",
            )
        ),
        ({"method": "DELETE"}, "method: DELETE is not permitted"),
        ({"method": "POST"}, "method: POST is not permitted"),
        ({"body": {}}, "body: a GET has none"),
        ({"query_params": {"api-version": "2020-01-01"}}, "query_params.api-version"),
        *(
            ({"headers": {bad: "x"}}, "headers: only")
            for bad in ("Authorization", "Host", "X-Ms-Authorization-Auxiliary", "Cookie")
        ),
        ({"headers": {"x-ms-a": "x\r\nHost: y"}}, "headers.x-ms-a: must be"),
    ],
)
def test_a_call_that_cannot_be_made_is_refused_beside_the_others(call: dict[str, Any], said: str) -> None:
    """The reason names the call and the member; other calls of the request are made."""
    first, second, third = items({}, call, {})
    assert isinstance(second, RefusedItem)
    assert second.reason.startswith("api_requests[1].")
    assert said in second.reason
    assert [isinstance(item, WorkItem) and item.index for item in (first, third)] == [0, 2]


def test_methods_that_change_something_need_permission() -> None:
    """A query of Resource Graph does not, and keeps its body."""
    assert only({"method": "DELETE"}, frozenset({Method.DELETE})).call.method == "DELETE"
    assert "not permitted" in reason({"method": "PUT", "body": {}})
    graph = {"method": "POST", "resource_path": "/providers/microsoft.resourcegraph/resources", "parameters": {}}
    assert only(graph | {"body": {"query": "Resources"}}).call.body == b'{"query":"Resources"}'
    assert "not permitted" in reason(graph | {"resource_path": "/providers/microsoft.resourcegraph/resources/x"})


def test_queries_and_headers_are_as_asked_for() -> None:
    """Truth values are written as Azure does, and a version that is given twice counts once."""
    call = only({"query_params": {"$top": 5, "all": True, "api-version": "2024-07-01"}, "headers": {"X-MS-Trace": "a b"}}).call
    assert call.query == (("api-version", "2024-07-01"), ("$top", "5"), ("all", "true"))
    assert call.headers == (("x-ms-trace", "a b"),)


def test_the_id_of_an_item_follows_from_the_request_and_the_call() -> None:
    """Reading a request again gives the same ids; another place or call gives another one."""
    first, again, other = only({}), only({}), only({"parameters": {"subscriptionId": "s-2"}})
    assert first.id == again.id != other.id
    assert len({item.id for item in items({}, {}, {}) if isinstance(item, WorkItem)}) == 3
    assert len(first.id) == 32


def test_times_without_an_offset_are_utc() -> None:
    """As the original wrote them."""
    times = [read_request(message(timestamp=text)).time for text in ("2024-01-17T01:00:00", "2024-01-17T02:00:00+01:00")]
    assert times[0] is not None
    assert times[0] == times[1]
    assert read_request(message()).time is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_a_call_that_can_be_made(name: str) -> None:
    """Its parameters are all that it needs, and it only reads; one without them says which are missing."""
    template = TEMPLATES[name]
    call = template.request({parameter: f"a-{parameter}" for parameter in template.parameters})
    (item,) = work_items(CollectionRequest(message_id="m", api_requests=[call]))
    assert isinstance(item, WorkItem), item
    assert item.call.reads_only
    assert "a-subscriptionId" in item.call.path or b"a-subscriptionId" in (item.call.body or b"")
    with pytest.raises(RequestRefused, match="subscriptionId"):
        template.request({})


def test_examples_are_requests() -> None:
    """As written, they are read again; each has an id of its own."""
    requests = list(example_requests())
    assert [read_request(write_request(request)) for request in requests] == requests
    assert len({request.message_id for request in requests}) == len(requests)


def test_the_schema_describes_every_member() -> None:
    """For whoever reads it in an editor."""
    definitions = request_schema()["$defs"]
    members = [member for kind in ("CollectionRequest", "ApiRequest") for member in definitions[kind]["properties"].values()]
    assert len(members) == 14
    assert all("description" in member for member in members)
    assert not any(definitions[kind]["additionalProperties"] for kind in ("CollectionRequest", "ApiRequest"))


@pytest.mark.parametrize(
    ("changes", "is_request"),
    [
        ({}, True),
        ({"priority": "high", "metadata": {"any": [1]}, "correlation_id": None}, True),
        ({"api_requests": []}, False),
        ({"api_requests": [{"service": "compute"}]}, False),
        ({"message_id": "with space"}, False),
        ({"message_id": "m\n"}, False),
        ({"priority": "urgent"}, False),
        ({"surprise": 1}, False),
    ],
)
def test_the_schema_says_what_is_taken(changes: dict[str, object], *, is_request: bool) -> None:
    """It is a JSON Schema, and judges as the collector does."""
    schema = request_schema()
    OAS31Validator.check_schema(schema)
    document = json.loads(write_request(next(example_requests()))) | changes
    assert OAS31Validator(schema).is_valid(document) is is_request
    if is_request:
        assert read_request(json.dumps(document).encode()).message_id == document["message_id"]
    else:
        with pytest.raises(RequestRefused):
            read_request(json.dumps(document).encode())
