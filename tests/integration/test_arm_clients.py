"""The Azure Resource Manager of the tests, as Microsoft's own clients see it, and our client with Microsoft's identity."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.resourcegraph import ResourceGraphClient
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions
from click.testing import CliRunner, Result

from libs.common.azure.arm.api import ArmCall
from libs.common.azure.arm.client import ArmClient
from libs.common.azure.arm.pages import ArmLists
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.identity import Identity, default_credential
from libs.common.http.method import Method
from libs.demo.arm.estate_world import EstateWorld
from libs.demo.arm.server import IDENTITY_HEADER, MACHINES, SUBSCRIPTION, ArmWorld, error, serving_arm, throttled
from libs.demo.spec import EstateSpec
from services.cli.main import blobtide

PLAIN: dict[str, Any] = {"enforce_https": False}  # the credential is no secret, and does not leave this machine


class _Credential:
    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Return the token that the world knows."""
        assert scopes
        return AccessToken("token-1", int(time.time()) + 3_600)


def test_the_client_for_compute_reads_lists_machines_and_operations() -> None:
    """Pages, refusals with Retry-After, what is not there, and an operation that takes time."""
    world = ArmWorld(machines=10, page_size=4, polls=1)
    with serving_arm(world) as url, ComputeManagementClient(_Credential(), SUBSCRIPTION, base_url=url) as client:
        world.faults.extend([None, throttled("1")])
        listed = [machine.name for machine in client.virtual_machines.list_all(**PLAIN)]
        assert listed == [f"vm-{index:06}" for index in range(10)]
        assert len(world.asked) == 4
        one = client.virtual_machines.get("group-3", "vm-000003", **PLAIN)
        assert (one.location, one.tags, one.hardware_profile.vm_size) == ("westeurope", {"owner": "team-0"}, "Standard_D2s_v5")
        with pytest.raises(ResourceNotFoundError) as absent:
            client.virtual_machines.get("group-3", "vm-000099", **PLAIN)
        assert absent.value.error is not None
        assert absent.value.error.code == "ResourceNotFound"
        client.virtual_machines.begin_start("group-3", "vm-000003", polling_interval=0, **PLAIN).result(30)
        assert world.polled == {"0": 3}, "while it runs, when it is over, and for its result"


def test_the_client_for_compute_reads_the_machines_of_the_demo() -> None:
    """The Azure of the demo is one for Microsoft's clients as well, also by the name of a machine."""
    world = EstateWorld(EstateSpec(nics=3), lambda: 0.0)
    with serving_arm(world) as url, ComputeManagementClient(_Credential(), world.subscriptions[0], base_url=url) as client:
        machines = list(client.virtual_machines.list_all(**PLAIN))
        assert [machine.name for machine in machines] == ["vm-0", "vm-1", "vm-2"]
        one = client.virtual_machines.get("rg-demo", "vm-1", **PLAIN)
        assert [nic.id.rpartition("/")[2] for nic in one.network_profile.network_interfaces] == ["nic-1"]


def test_the_client_for_resource_graph_reads_all_rows() -> None:
    """By the token of each page."""
    with serving_arm(ArmWorld(machines=10, page_size=4)) as url, ResourceGraphClient(_Credential(), base_url=url) as client:
        names: list[str] = []
        token = None
        while not names or token:
            query = QueryRequest(query="Resources", subscriptions=[SUBSCRIPTION], options=QueryRequestOptions(skip_token=token))
            answer = client.resources(query, **PLAIN)
            rows: Any = answer.data
            names += [row["name"] for row in rows]
            token = answer.skip_token
        assert (len(names), answer.total_records) == (10, 10)


@contextmanager
def signed_in(world: ArmWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a world, with a managed identity of this process, and yield its URL."""
    with serving_arm(world) as url:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
        for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        default_credential.cache_clear()
        yield url
        default_credential.cache_clear()


def test_a_connection_to_azure_is_tried_as_the_collector_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the identity sees is said; no subscription, a refusal, and no token are errors that say what to do."""
    world = ArmWorld(subscriptions=("a", "b"))
    with signed_in(world, monkeypatch) as url:
        monkeypatch.setenv("BLOBTIDE_COLLECTOR__MANAGEMENT_URL", url)

        def tried() -> Result:
            return CliRunner().invoke(blobtide, ("test-connection", "azure"))

        assert "; the identity sees 2 subscriptions" in tried().output
        world.subscriptions = ()
        assert (tried().exit_code, "grant it the role Reader" in tried().stderr) == (2, True)
        world.faults.append(error(403, "AuthorizationFailed"))
        assert "grant the identity the role Reader" in tried().stderr
        monkeypatch.setenv("IDENTITY_HEADER", "of another process")
        default_credential.cache_clear()
        away = tried()
        assert (away.exit_code, "no token from Azure identity" in away.stderr) == (3, True)


def test_a_managed_identity_signs_in_and_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for many requests; a token that is refused and cannot be replaced ends the attempt."""
    world = ArmWorld(machines=10, page_size=4)
    with signed_in(world, monkeypatch) as url:
        parts = urlsplit(url)
        identity = Identity(default_credential(None), "https://management.azure.com/.default")
        client = ArmClient(Endpoint(parts.scheme, parts.hostname or "", parts.port, ""), identity)
        call = ArmCall(Method.GET, MACHINES, (("api-version", "2024-07-01"),))
        try:
            world.faults.extend([None, error(401, "ExpiredAuthenticationToken")])
            with pytest.raises(Exception, match="401 ExpiredAuthenticationToken"):
                list(ArmLists(client).pages(call))
            assert sum(page.elements for page in ArmLists(client).pages(call)) == 10
        finally:
            client.close()
    assert world.issued == 1
