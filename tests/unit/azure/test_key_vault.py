"""Reading secrets of Key Vault, signed in with Microsoft's own library, from a vault that Microsoft's own client accepts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libs.common.azure.retry import RetryPolicy
from libs.common.azure.vault.client import VaultPlace
from libs.common.azure.vault.failures import SecretUnusable, TokenRefused, VaultUnavailable
from libs.common.azure.vault.opening import open_vaults
from libs.common.errors import ConfigError
from libs.common.settings.azure import AzureSettings, Cloud
from libs.common.settings.references import SecretReference
from tests.azure_estate import APP, CLIENT_SECRET, VAULT, AzureEstate, azure_estate
from tests.fakes.azure_front import WebReply
from tests.fakes.entra_server import TENANT
from tests.fakes.key_vault import StoredSecret, failure, throttled

CREDENTIAL = {"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret": CLIENT_SECRET}
QUICK = RetryPolicy(deadline=1.0, first_wait=0.01, longest_wait=0.02)
PASSWORD = SecretReference(VAULT, "password")
AWAY = failure(503, "ServiceUnavailable", "busy")


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEstate]:
    """Azure on this machine."""
    with azure_estate(tmp_path, monkeypatch) as found:
        yield found


def read(reference: SecretReference = PASSWORD, policy: RetryPolicy = QUICK, **azure: Any) -> str:
    """Read a secret as the product does."""
    settings = AzureSettings.model_validate({"credential": CREDENTIAL, **azure})
    with closing(open_vaults(settings, policy)) as vaults:
        return vaults.read(reference)


def test_a_secret_is_read_in_its_current_or_a_named_version(estate: AzureEstate) -> None:
    """At the host of the vault, and after signing in for key vaults."""
    assert read() == "hunter2-of-kafka"
    assert read(SecretReference(VAULT, "password", f"{1:032}")) == "old-hunter2"
    assert estate.vault.asked == ["/secrets/password", f"/secrets/password/{1:032}"]
    assert set(estate.front.tunnels) == {"login.microsoftonline.com:443", f"{VAULT}.vault.azure.net:443"}


def test_the_vaults_of_another_cloud_are_elsewhere(estate: AzureEstate) -> None:
    """Their domain, the authority and the permission belong together."""
    assert read(cloud="government") == "hunter2-of-kafka"
    assert set(estate.front.tunnels) == {"login.microsoftonline.us:443", f"{VAULT}.vault.usgovcloudapi.net:443"}


@pytest.mark.parametrize(
    "vault",
    [
        "a.b",
        "evil.example/",
        "evil.example#",
        "-ab",
        "ab-",
        "a--b",
        "ab",
        "a" * 25,
        "ab\n",
        "ab@evil",
        "abc:80",
        "ünder",
        "1ab",
        "",
    ],
)
def test_nothing_but_the_name_of_a_vault_becomes_part_of_a_host(vault: str) -> None:
    """Whoever makes references cannot lead a token elsewhere."""
    with pytest.raises(SecretUnusable, match="not the name of a key vault"):
        VaultPlace.of(Cloud.PUBLIC).endpoint(vault)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (StoredSecret("hunter2", enabled=False), "403 SecretDisabled: it is disabled: enable it, or name another version"),
        (StoredSecret("hunter2", expires=1_767_225_600), "expired at 2026-01-01T00:00:00Z: make a new version of it"),
        (StoredSecret("hunter2", not_before=32_503_680_000), "is not valid before 3000-01-01T00:00:00Z"),
    ],
)
def test_a_secret_that_is_disabled_or_not_valid_now_is_not_used(estate: AzureEstate, secret: StoredSecret, said: str) -> None:
    """Although the vault hands out what has expired; the value is not in the error."""
    estate.vault.secrets["password"] = [secret]
    with pytest.raises(SecretUnusable, match=said) as caught:
        read()
    assert str(caught.value).startswith("kv://shop-vault/password: ")
    assert "hunter2" not in str(caught.value)


def test_each_refusal_says_what_to_do(estate: AzureEstate) -> None:
    """A missing role, a missing policy, a firewall and a missing secret are told apart; none is asked for again."""
    world = estate.vault
    with pytest.raises(SecretUnusable, match="404 SecretNotFound: there is no such secret or version in the vault"):
        read(SecretReference(VAULT, "none"))
    world.readers = frozenset()
    with pytest.raises(
        SecretUnusable, match="ForbiddenByRbac: grant the identity the role Key Vault Secrets User on the vault"
    ):
        read()
    world.by_policy = True
    with pytest.raises(SecretUnusable, match="ForbiddenByPolicy: give the identity the permission `get` for secrets"):
        read()
    world.admits = False
    with pytest.raises(SecretUnusable, match="ForbiddenByFirewall: the firewall of the vault does not admit this machine"):
        read()
    assert len(world.asked) == 4


def test_a_vault_that_is_busy_is_asked_again_as_it_says(estate: AzureEstate) -> None:
    """Within a deadline, and not if it asks for a longer pause."""
    world = estate.vault
    world.faults.extend([throttled(0), AWAY, WebReply(200, None)])
    assert read() == "hunter2-of-kafka"
    assert len(world.asked) == 4
    world.faults.append(throttled(100))
    with pytest.raises(VaultUnavailable, match=r"429 Throttled: .* \(1 try\)") as caught:
        read()
    assert (caught.value.after, caught.value.exit_code) == (100.0, 3)
    world.faults.extend([AWAY] * 1_000)
    with pytest.raises(VaultUnavailable, match="503 ServiceUnavailable: busy"):
        read()
    assert 2 < len(world.asked) < 900


def test_a_token_that_is_refused_is_renewed_once(estate: AzureEstate) -> None:
    """If there is no better one, the error says what may be wrong."""
    world = estate.vault
    world.faults.append(failure(401, "Unauthorized", "revoked", headers={"WWW-Authenticate": 'Bearer claims="e30="'}))
    assert read() == "hunter2-of-kafka"
    assert len(world.asked) == 2
    estate.entra.generation = 2  # tokens that the library still has are no longer valid
    with pytest.raises(TokenRefused, match="is the vault in another tenant or cloud"):
        read()


def test_a_vault_that_does_not_exist_and_a_client_that_has_no_token_are_told_apart(estate: AzureEstate) -> None:
    """Neither is tried for long."""
    with pytest.raises(VaultUnavailable, match=r"kv://nowhere/x: .*nowhere.vault.azure.net|does not respond"):
        read(SecretReference("nowhere", "x"))
    with pytest.raises(VaultUnavailable, match=r"kv://shop-vault/password: no token from Azure identity .*AADSTS7000215"):
        read(credential={**CREDENTIAL, "client_secret": "wr0ng"})


def test_without_a_network_the_vault_and_the_likely_cause_are_named(
    estate: AzureEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that cannot be resolved is not tried again."""
    vaults = open_vaults(AzureSettings.model_validate({"credential": CREDENTIAL}), QUICK)
    vaults._identity.token()
    monkeypatch.delenv("HTTPS_PROXY")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        closing(vaults),
        pytest.raises(VaultUnavailable, match=r"cannot be resolved.*is there a vault of this name in the cloud"),
    ):
        vaults.read(PASSWORD)


@pytest.mark.parametrize(
    "body", ["text", [], {}, {"value": 3}, {"value": None, "attributes": {}}, {"value": "hunter2", "attributes": 1}]
)
def test_an_answer_that_is_no_secret_is_an_error_without_its_content(estate: AzureEstate, body: object) -> None:
    """Whatever is between us and the vault may answer."""
    estate.vault.faults.append(WebReply(200, body))
    with pytest.raises(SecretUnusable, match="what the vault answers is not a secret") as caught:
        read()
    assert "hunter2" not in str(caught.value)


def test_a_refusal_in_another_form_is_an_error_of_its_status(estate: AzureEstate) -> None:
    """A redirect is not followed."""
    for status, said in ((302, "302: grant"), (404, "404: there is no such secret"), (418, "418: grant")):
        estate.vault.faults.append(WebReply(status, ["no error"], {"Location": "https://evil.example/"}))
        with pytest.raises(SecretUnusable, match=said):
            read()


@pytest.mark.parametrize("missing", ["azure.identity", "urllib3"])
def test_without_the_extra_it_is_named(estate: AzureEstate, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Whoever has no references needs nothing of it."""
    if missing == "urllib3":  # as if nothing had imported it yet
        for name in ("libs.common.azure.host", "libs.common.azure.vault.client"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"kv://\.\.\. needs the extra 'azure' .*blobtide\[azure\]"):
        read(credential={"kind": "default"})


def test_a_credential_that_cannot_work_is_said_before_anything_is_asked(estate: AzureEstate) -> None:
    """It is the setting that is wrong, not the vault."""
    with pytest.raises(ConfigError, match=r"azure\.credential: cannot read client_secret_file"):
        read(credential={"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret_file": "/none"})
    assert estate.front.tunnels == []
