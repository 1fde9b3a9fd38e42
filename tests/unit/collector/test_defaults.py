"""The subscription and the tenant for requests that name none: from a secret, read again, and the same for all of a request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.settings.collector import CollectorSettings, CollectorVault
from libs.common.settings.references import SecretReference
from libs.demo.arm.server import COMPUTE, SUBSCRIPTION, ArmWorld, error, serving_arm
from services.collector.defaults import RETRY_SECONDS, VaultDefaults
from services.collector.requests.defaults import defaults_in, filling_of, with_defaults
from services.collector.requests.items import check_calls
from services.collector.requests.schema import RequestRefused, read_request
from tests.collector_world import LIST, CollectorWorld, request

PLACE = CollectorVault(vault="shop-vault", refresh_hours=6)
OPEN = LIST | {"resource_path": f"/subscriptions/{{subscriptionId}}/providers/{COMPUTE}/virtualMachines", "parameters": {}}
OTHER = f"{SUBSCRIPTION[:8]}-2222-2222-2222-222222222222"
TENANT = "contoso.example"
SECONDS = 30.0


def secret(subscription: str, **more: Any) -> str:
    """Return the content of the secret."""
    return json.dumps({"subscription_id": subscription, "tenant_id": TENANT, **more})


class Vault:
    """A secret that changes, or is away; and the clock."""

    def __init__(self, found: str | BlobtideError) -> None:
        self.found = found
        self.now = 0.0
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def read(self, reference: SecretReference) -> str:
        """Return or raise what is there now."""
        self.asked.append(str(reference))
        assert self.gate.wait(SECONDS)
        if isinstance(self.found, BlobtideError):
            raise self.found
        return self.found

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def defaults(self) -> VaultDefaults:
        """Return what reads it, opened."""
        found = VaultDefaults(PLACE, self, lambda: self.now)
        found.open()
        return found


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """Ten machines in each subscription, in lists of four a page."""
    arm = ArmWorld(machines=10, page_size=4)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url)


def settled(defaults: VaultDefaults, vault: Vault, times: int) -> dict[str, str]:
    """Ask until the secret was read so often, and return what is known then."""
    deadline = time.monotonic() + SECONDS
    while len(vault.asked) < times or (defaults._thread is not None and defaults._thread.is_alive()):
        assert time.monotonic() < deadline
        defaults.values()
    return dict(defaults.values())


def test_a_secret_has_the_values_of_four_placeholders() -> None:
    """As in the original, whatever else it holds."""
    found = defaults_in(secret(SUBSCRIPTION, client_id="x"))
    ids = dict.fromkeys(("subscriptionId", "subscription_id"), SUBSCRIPTION)
    assert found == ids | dict.fromkeys(("tenantId", "tenant_id"), TENANT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hunter2", 'not JSON; it must be {"subscription_id": "...", "tenant_id": "..."}'),
        ('{"subscription_id": "hunter2', "not JSON"),
        ("[" * 100_000, "Expected `object`, got `array`"),
        ("\ud800", "not JSON"),
        ('"hunter2"', "Expected `object`, got `str`"),
        ("{}", "missing required field `subscription_id`"),
        (f'{{"subscription_id": "{SUBSCRIPTION}"}}', "missing required field `tenant_id`"),
        ('{"subscription_id": "hunter2", "tenant_id": "t"}', "subscription_id"),
        (f'{{"subscription_id": "{SUBSCRIPTION}", "tenant_id": "a/hunter2"}}', "tenant_id"),
        (f'{{"subscription_id": "{SUBSCRIPTION}\\n", "tenant_id": "t"}}', "subscription_id"),
    ],
)
def test_a_malformed_secret_is_a_clear_error_that_does_not_show_it(text: str, said: str) -> None:
    """It says what is wrong, and what it must be."""
    with pytest.raises(ConfigError) as caught:
        defaults_in(text)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_only_placeholders_that_are_left_open_are_filled() -> None:
    """What a request says counts; what cannot be filled is refused as ever; a request that says all is the same one."""
    defaults = defaults_in(secret(SUBSCRIPTION))
    whole = read_request(request("m", LIST))
    assert with_defaults(whole, defaults) is whole
    path = "/subscriptions/{subscriptionId}/providers/{what}/{tenant_id}"
    some = read_request(request("m", OPEN | {"resource_path": path, "parameters": {"subscriptionId": "mine"}}))
    (call,) = with_defaults(some, defaults).api_requests
    assert call.parameters == {"subscriptionId": "mine", "tenant_id": TENANT}


def test_whoever_checks_requests_lets_them_leave_open_what_will_be_filled() -> None:
    """Before they are sent, only if the collector has defaults; everything else is checked as ever."""
    left_open = read_request(request("m", OPEN))
    check_calls(filling_of(CollectorSettings(key_vault=PLACE))(left_open))
    with pytest.raises(RequestRefused, match=r"no value for \{subscriptionId\}"):
        check_calls(filling_of(CollectorSettings())(left_open))
    with pytest.raises(RequestRefused, match="DELETE is not permitted"):
        check_calls(filling_of(CollectorSettings(key_vault=PLACE))(read_request(request("m", OPEN | {"method": "DELETE"}))))


def test_a_secret_is_read_at_the_start_and_again_when_it_is_old() -> None:
    """Meanwhile what is known counts, and nobody waits for the vault."""
    vault = Vault(secret(SUBSCRIPTION))
    defaults = vault.defaults()
    assert defaults.values()["subscriptionId"] == SUBSCRIPTION
    vault.now, vault.found = 6 * 3_600 - 1, secret(OTHER)
    assert (defaults.values()["subscriptionId"], len(vault.asked)) == (SUBSCRIPTION, 1)
    vault.gate.clear()
    vault.now += 1
    assert [defaults.values()["subscriptionId"] for _ in range(3)] == [SUBSCRIPTION] * 3
    vault.gate.set()
    assert settled(defaults, vault, 2)["subscriptionId"] == OTHER
    assert vault.asked == ["kv://shop-vault/azure-collector-creds"] * 2
    defaults.close()
    assert vault.closed


@pytest.mark.parametrize("trouble", [ServerUnreachable("away"), ConfigError("refused"), "hunter2"])
def test_what_is_known_remains_while_the_secret_cannot_be_read_again(trouble: str | BlobtideError) -> None:
    """Whatever the reason; it is tried again each minute."""
    vault = Vault(secret(SUBSCRIPTION))
    defaults = vault.defaults()
    vault.now, vault.found = 6 * 3_600, trouble
    assert settled(defaults, vault, 2)["subscriptionId"] == SUBSCRIPTION
    vault.now += RETRY_SECONDS - 1
    assert (defaults.values()["subscriptionId"], len(vault.asked)) == (SUBSCRIPTION, 2)
    vault.now, vault.found = vault.now + 1, secret(OTHER)
    assert settled(defaults, vault, 3)["subscriptionId"] == OTHER


def test_a_secret_that_cannot_be_read_at_the_start_ends_it() -> None:
    """The setting and the secret are named; the exit code says whether a server was away."""
    with pytest.raises(ConfigError, match=r"collector\.key_vault: kv://shop-vault/azure-collector-creds: not JSON"):
        Vault("hunter2").defaults()
    with pytest.raises(ServerUnreachable, match="away"):
        Vault(ServerUnreachable("away")).defaults()


def test_requests_may_leave_the_subscription_open(world: CollectorWorld) -> None:
    """The rows say which one was asked; without a default such a call is refused."""
    world.send(request("before", OPEN))
    world.run()
    assert world.ends() == {"before/0": ("error", 0)}
    world.defaults = Vault(secret(SUBSCRIPTION)).defaults()
    world.send(request("after", OPEN))
    world.run()
    assert world.ends()["after/0"] == ("success", 10)
    assert f"/subscriptions/{SUBSCRIPTION}/providers/{COMPUTE}/virtualMachines" in world.arm.paths()


def test_a_request_goes_on_with_the_subscription_with_which_it_began(world: CollectorWorld) -> None:
    """Even if the secret changed before the collector was started again: all of its calls are about the same one."""
    world.settings = CollectorSettings(commit_seconds=0.02, concurrency=1)
    world.defaults = Vault(secret(SUBSCRIPTION)).defaults()
    world.send(request("m", OPEN, OPEN, OPEN))
    world.run(until=lambda: len(world.rows()) >= 1)
    assert len(world.ends()) < 3
    world.defaults = Vault(secret(OTHER)).defaults()
    world.send(request("n", OPEN))
    world.run()
    assert world.ends() == {f"m/{index}": ("success", 10) for index in range(3)} | {"n/0": ("success", 10)}
    asked = [path.split("/")[2] for path in world.arm.paths()]
    assert (asked.count(SUBSCRIPTION), asked.count(OTHER)) == (len(asked) - 3, 3)


def test_after_a_401_the_secret_is_read_again(world: CollectorWorld) -> None:
    """The subscription may have moved to another tenant; but not at each of many refusals."""
    vault = Vault(secret(SUBSCRIPTION))
    defaults = world.defaults = vault.defaults()
    world.arm.faults.append(error(401, "InvalidAuthenticationTokenTenant"))
    world.send(request("m", OPEN))
    world.run()
    assert world.ends() == {"m/0": ("error", 0)}
    read = len(vault.asked)
    vault.now, vault.found = RETRY_SECONDS - 1, secret(OTHER)
    assert settled(defaults, vault, read)["subscriptionId"] == SUBSCRIPTION
    vault.now = RETRY_SECONDS
    assert settled(defaults, vault, read + 1)["subscriptionId"] == OTHER
    vault.now += RETRY_SECONDS
    assert (settled(defaults, vault, read + 1)["subscriptionId"], len(vault.asked)) == (OTHER, read + 1)
