"""Lists of Azure Resource Manager, page by page: our client, and Microsoft's, against the same server in a process of its own.

Both count the resources. Ours keeps each page as the text that goes into a row; the other makes an object of each resource,
which is what its users get. The server is that of the tests, on this machine, so only the CPU of the client says something.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken
from azure.mgmt.compute import ComputeManagementClient

from benchmarks.errors import BenchmarkFailed
from benchmarks.measured import Measured, Sample, Work
from libs.common.azure.arm.api import ArmCall
from libs.common.azure.arm.client import ArmClient
from libs.common.azure.arm.pages import ArmLists
from libs.common.azure.endpoint import Endpoint
from libs.common.http.method import Method
from libs.demo.arm.server import MACHINES, SUBSCRIPTION, machine

OWN: Final = "lists, own client"
SDK: Final = "lists, Azure SDK"
_PAGE: Final = 500
_TOKEN: Final = "token-1"  # noqa: S105 - the one that the server expects
_VERSION: Final = "2024-07-01"


class _Always:
    """The only token, for both clients."""

    def token(self) -> str:
        return _TOKEN

    def renewed(self, refused: str, claims: str | None = None) -> str | None:
        del refused, claims
        return None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        del scopes, options
        return AccessToken(_TOKEN, int(time.time()) + 3_600)


def measure(pages: int, repeats: int) -> Iterator[Measured]:
    """Read a list of so many pages; more than 250 would have to wait for Azure's limits."""
    resources = pages * _PAGE
    each = len(json.dumps(machine(SUBSCRIPTION, 0, "Standard_D2s_v5")))
    work = Work(resources, resources * each, pages)
    with _serving(resources) as url:
        for stage, read, against in ((OWN, _by_own, SDK), (SDK, _by_sdk, None)):
            samples = tuple(_timed(read, url, resources) for _ in range(repeats))
            yield Measured(stage, f"{_PAGE} a page", work, samples, "resources counted", against)


def _timed(read: Callable[[str], int], url: str, expected: int) -> Sample:
    cpu, wall = time.process_time(), time.perf_counter()
    found = read(url)
    sample = Sample(time.process_time() - cpu, time.perf_counter() - wall)
    if found != expected:
        raise BenchmarkFailed(f"{found} of {expected} resources were read")
    return sample


def _by_own(url: str) -> int:
    parts = urlsplit(url)
    client = ArmClient(Endpoint(parts.scheme, parts.hostname or "", parts.port, ""), _Always())
    try:
        call = ArmCall(Method.GET, MACHINES, (("api-version", _VERSION),))
        return sum(page.elements for page in ArmLists(client).pages(call))
    finally:
        client.close()


def _by_sdk(url: str) -> int:
    with ComputeManagementClient(_Always(), SUBSCRIPTION, base_url=url) as client:
        options: dict[str, Any] = {"enforce_https": False}
        return sum(1 for _ in client.virtual_machines.list_all(**options))


@contextmanager
def _serving(machines: int) -> Iterator[str]:
    argv = (sys.executable, "-m", "libs.demo.arm.server", "--machines", str(machines), "--page-size", str(_PAGE))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout is None:
                raise BenchmarkFailed("the server of Azure Resource Manager does not start")
            yield server.stdout.readline().strip()
        finally:
            server.kill()
