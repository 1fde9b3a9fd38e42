"""Azure Resource Manager on this machine: any number of virtual machines, and faults that the real one cannot be made to show.

Microsoft's own clients accept it (tests/integration/test_arm_clients.py). It also hands out tokens, as the endpoint for managed
identities in App Service does. As a program (``python -m libs.demo.arm.server``) it prints its address and runs until it is
killed.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

LOOPBACK: Final = "127.0.0.1"
SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
REGION = "WESTEUROPE"
IDENTITY_HEADER = "of-this-process"
IDENTITY_PATH: Final = "/msi/token"
COMPUTE = "Microsoft.Compute"
MACHINES = f"/subscriptions/{SUBSCRIPTION}/providers/{COMPUTE}/virtualMachines"
_LIST = re.compile(r"/subscriptions/([^/]+)/providers/([^/]+)/([^/]+)")
_ONE = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/([^/]+)/([^/]+)/([^/]+)(/[A-Za-z]+)?")
_OPERATION = re.compile(r"/subscriptions/([^/]+)/providers/[^/]+/locations/[^/]+/(operations|results)/(\d+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: status, headers, body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BrokenReply:
    """Close the connection: before the answer, or in the middle of it."""

    in_body: bool = False


@dataclass(frozen=True, slots=True)
class SlowReply:
    """Send the answer in small pieces, with a pause after each."""

    seconds: float


Fault = Reply | BrokenReply | SlowReply


def error(status: int, code: str, message: str = "said by Azure", **headers: str) -> Reply:
    """Return a refusal as Azure words it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"code": code, "message": message}}, names)


def throttled(seconds: str = "0") -> Reply:
    """Return a refusal that asks for a pause."""
    return error(429, "TooManyRequests", Retry_After=seconds)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A list: how many elements it has, and a function that returns those with the given numbers."""

    total: int
    part: Callable[[range], list[dict[str, Any]]]


@dataclass
class AzureWorld(ABC):
    """What is the same whatever there is: tokens, checks, pages; and what goes wrong.

    Attributes:
        subscriptions: those that the list of them has.
        page_size: of lists.
        faults: used up one a request; None lets the request through.
        epoch: part of every link to a next page; those of another one have expired.
        next_link: changes a link before it is sent.
        tokens: that are valid; the last one is handed out.
        asked: requests that arrived, except those for tokens.
    """

    subscriptions: tuple[str, ...] = (SUBSCRIPTION,)
    page_size: int = 4
    faults: deque[Fault | None] = field(default_factory=deque)
    epoch: int = 0
    next_link: Callable[[str], str] = lambda link: link
    left: int = 240
    tokens: list[str] = field(default_factory=lambda: ["token-1"])
    issued: int = 0
    asked: MutableSequence[ReceivedRequest] = field(default_factory=list)
    url: str = ""

    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [asked.path for asked in self.asked]

    def answer(self, asked: ReceivedRequest) -> Reply:
        """Return the response to a request that no fault prevents."""
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            challenge = 'Bearer authorization_uri="https://login.example/", error="invalid_token"'
            return error(401, "ExpiredAuthenticationToken", WWW_Authenticate=challenge)
        if "api-version" not in asked.query:
            return error(400, "MissingApiVersionParameter")
        if asked.path == "/subscriptions":
            return Reply(200, {"value": [_subscription(one) for one in self.subscriptions]})
        if asked.path.lower() == "/providers/microsoft.resourcegraph/resources":
            return self._graph(asked)
        return self._of_resources(asked)

    @abstractmethod
    def _of_resources(self, asked: ReceivedRequest) -> Reply:
        """Return the response to a request for what is in a subscription."""

    @abstractmethod
    def _everything(self, subscriptions: Sequence[str]) -> Listed:
        """Return all resources, as Resource Graph knows them."""

    def _list(self, asked: ReceivedRequest, listed: Listed) -> Reply:
        """Return the page of a list that is asked for."""
        begin, _, epoch = asked.query.get("$skiptoken", f"0.{self.epoch}").partition(".")
        if int(epoch) != self.epoch:
            return error(400, "ExpiredSkipToken")
        end = int(begin) + self.page_size
        body: dict[str, Any] = {"value": listed.part(range(int(begin), min(end, listed.total)))}
        if end < listed.total:
            link = f"{self.url}{asked.path}?api-version={asked.query['api-version']}&%24skiptoken={end}.{self.epoch}"
            body["nextLink"] = self.next_link(link)
        return Reply(200, body)

    def _graph(self, asked: ReceivedRequest) -> Reply:
        """Return a page of all resources, whatever the query says."""
        query = json.loads(asked.body)
        token = query.get("options", {}).get("$skipToken", f"0.{self.epoch}")
        begin, _, epoch = token.partition(".")
        if int(epoch) != self.epoch:
            return error(400, "InvalidSkipToken")
        end = int(begin) + self.page_size
        listed = self._everything(query["subscriptions"])
        rows = listed.part(range(int(begin), min(end, listed.total)))
        more = {"$skipToken": f"{end}.{self.epoch}"} if end < listed.total else {}
        body = {"totalRecords": listed.total, "count": len(rows), "data": rows, "facets": [], "resultTruncated": "false"}
        return Reply(200, body | more, {"x-ms-user-quota-remaining": "14", "x-ms-user-quota-resets-after": "00:00:05"})


@dataclass
class ArmWorld(AzureWorld):
    """Any number of virtual machines.

    Attributes:
        machines: how many virtual machines each subscription has, apart from those `gone`; `size` is that of all.
        polls: how often a started operation answers that it runs.
    """

    machines: int = 10
    gone: frozenset[int] = frozenset()
    size: str = "Standard_D2s_v5"
    polls: int = 2
    operation_state: str = "Succeeded"
    polled: Counter[str] = field(default_factory=Counter)

    def _of_resources(self, asked: ReceivedRequest) -> Reply:
        for pattern, handle in ((_OPERATION, self._operation), (_ONE, self._one), (_LIST, self._machine_list)):
            if found := pattern.fullmatch(asked.path):
                known = found[1].startswith(SUBSCRIPTION[:8])
                return handle(asked, found) if known else error(404, "SubscriptionNotFound")
        return error(404, "InvalidResource")

    def _everything(self, subscriptions: Sequence[str]) -> Listed:
        return Listed(self.machines, partial(self._machines, subscriptions[0]))

    def _machine_list(self, asked: ReceivedRequest, found: re.Match[str]) -> Reply:
        if (found[2], found[3]) != (COMPUTE, "virtualMachines"):
            return error(400, "NoRegisteredProviderFound", f"no provider for {found[3]}")
        return self._list(asked, Listed(self.machines, partial(self._machines, found[1])))

    def _one(self, asked: ReceivedRequest, found: re.Match[str]) -> Reply:
        index = re.fullmatch(r"vm-(\d+)", found[5])
        if index is None or int(index[1]) >= self.machines:
            return error(404, "ResourceNotFound")
        if asked.method == "GET":
            return Reply(200, machine(found[1], int(index[1]), self.size))
        number = len(self.polled)
        place = f"{self.url}/subscriptions/{found[1]}/providers/{COMPUTE}/locations/westeurope"
        self.polled[str(number)] = 0
        headers = {"Location": f"{place}/results/{number}?api-version=2024-07-01", "Retry-After": "0"}
        if found[6] != "/powerOff":
            headers["Azure-AsyncOperation"] = f"{place}/operations/{number}?api-version=2024-07-01"
        return Reply(202, None, headers)

    def _operation(self, asked: ReceivedRequest, found: re.Match[str]) -> Reply:
        del asked
        self.polled[found[3]] += 1
        runs = self.polled[found[3]] <= self.polls
        if found[2] == "results":
            return Reply(202, None, {"Retry-After": "0"}) if runs else Reply(200, {"started": True})
        if runs:
            return Reply(200, {"status": "InProgress"}, {"Retry-After": "0"})
        failed = {} if self.operation_state == "Succeeded" else {"error": {"code": "AllocationFailed", "message": "no room"}}
        return Reply(200, {"status": self.operation_state, **failed})

    def _machines(self, subscription: str, numbers: range) -> list[dict[str, Any]]:
        return [machine(subscription, number, self.size) for number in numbers if number not in self.gone]


def _subscription(subscription: str) -> dict[str, Any]:
    return {"id": f"/subscriptions/{subscription}", "subscriptionId": subscription, "displayName": "demo", "state": "Enabled"}


def machine(subscription: str, index: int, size: str) -> dict[str, Any]:
    """Return a virtual machine, which follows from its number."""
    group, name = f"group-{index % 7}", f"vm-{index:06}"
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{COMPUTE}/virtualMachines/{name}",
        "name": name,
        "type": f"{COMPUTE}/virtualMachines",
        "location": "westeurope",
        "tags": {"owner": f"team-{index % 3}"},
        "properties": {
            "vmId": f"00000000-0000-0000-0000-{index:012}",
            "hardwareProfile": {"vmSize": size},
            "provisioningState": "Succeeded",
        },
    }


@contextmanager
def serving_arm(world: AzureWorld, port: int = 0) -> Iterator[str]:
    """Serve `world` and yield its URL."""
    server = ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, world))
    server.daemon_threads = True
    world.url = f"http://{LOOPBACK}:{server.server_port}"
    thread = threading.Thread(target=partial(server.serve_forever, 0.02))
    thread.start()
    try:
        yield world.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, world: AzureWorld, *arguments: Any) -> None:
        self._world = world
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a request."""
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = ReceivedRequest(
            self.command, parts.path, query, headers, self.rfile.read(int(headers.get("content-length", "0")))
        )
        if asked.path == IDENTITY_PATH:
            self._send(self._token(asked))
            return
        self._world.asked.append(asked)
        fault = self._world.faults.popleft() if self._world.faults else None
        match fault:
            case Reply():
                self._send(fault)
            case BrokenReply(in_body=False):
                self.close_connection = True
            case _:
                self._send(self._world.answer(asked), fault)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _token(self, asked: ReceivedRequest) -> Reply:
        if asked.headers.get("x-identity-header") != IDENTITY_HEADER:
            return Reply(401, {"message": "no identity"})
        self._world.issued += 1
        token = {"access_token": self._world.tokens[-1], "expires_on": str(int(time.time()) + 3_600), "token_type": "Bearer"}
        return Reply(200, token | {"resource": asked.query["resource"]})

    def _send(self, reply: Reply, fault: Fault | None = None) -> None:
        number = len(self._world.asked)
        data = b"" if reply.body is None else reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        standard = {
            "Content-Type": "application/json; charset=utf-8",
            "Content-Length": str(len(data)),
            "x-ms-request-id": f"00000000-aaaa-bbbb-cccc-{number:012}",
            "x-ms-routing-request-id": f"{REGION}:20260501T120000Z:00000000-aaaa-bbbb-cccc-{number:012}",
            "x-ms-ratelimit-remaining-subscription-reads": str(self._world.left),
        }
        for name, value in {**standard, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        match fault:
            case BrokenReply():
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            case SlowReply(seconds):
                for begin in range(0, len(data), 200):
                    self.wfile.write(data[begin : begin + 200])
                    time.sleep(seconds)
            case _:
                self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server passes it by
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--page-size", type=int, default=100)
    arguments = parser.parse_args()
    with serving_arm(ArmWorld(machines=arguments.machines, page_size=arguments.page_size)) as url:
        print(url, flush=True)  # noqa: T201 - its only output
        threading.Event().wait()


if __name__ == "__main__":
    main()
