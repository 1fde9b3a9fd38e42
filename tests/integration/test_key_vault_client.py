"""The key vault of the tests, as Microsoft's own client sees it, signed in with Microsoft's own identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

from libs.common.azure.credentials import credential_of
from libs.common.settings.azure import AzureSettings
from tests.azure_estate import APP, CLIENT_SECRET, VAULT, azure_estate
from tests.fakes.entra_server import TENANT
from tests.fakes.key_vault import StoredSecret, throttled

PRINCIPAL = {"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret": CLIENT_SECRET}


def test_the_client_for_secrets_reads_versions_lists_and_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows the challenge, verifies its resource and the certificate, waits as told, and understands every refusal."""
    with azure_estate(tmp_path, monkeypatch) as estate:
        world = estate.vault
        world.secrets |= {
            "expired": [StoredSecret("late", expires=1_767_225_600)],
            "off": [StoredSecret("hidden", enabled=False)],
            "other": [StoredSecret("x")],
        }
        credential = credential_of(AzureSettings.model_validate({"credential": PRINCIPAL}))
        with SecretClient(f"https://{VAULT}.vault.azure.net", credential) as client:
            found = client.get_secret("password")
            assert (found.value, found.properties.version) == ("hunter2-of-kafka", f"{2:032}")
            assert (world.challenges, len(world.asked)) == (1, 1)
            assert client.get_secret("password", f"{1:032}").value == "old-hunter2"
            late = client.get_secret("expired")
            assert (late.value, late.properties.expires_on is not None) == ("late", True)
            assert [one.name for one in client.list_properties_of_secrets()] == ["expired", "off", "other", "password"]
            versions = client.list_properties_of_secret_versions("password")
            assert [one.version for one in versions] == [f"{1:032}", f"{2:032}"]
            world.faults.append(throttled(0))
            assert client.get_secret("password").value == "hunter2-of-kafka"
            with pytest.raises(HttpResponseError, match="not allowed on a disabled secret") as disabled:
                client.get_secret("off")
            assert disabled.value.status_code == 403
            with pytest.raises(ResourceNotFoundError):
                client.get_secret("none")
            world.readers = frozenset()
            with pytest.raises(HttpResponseError, match="Caller is not authorized"):
                client.get_secret("password")
