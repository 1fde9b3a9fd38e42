"""Azure on this machine, as whoever signs in there finds it: an authority, a key vault, and applications that may sign in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.common.azure.credentials import _credential
from libs.common.azure.identity import default_credential
from tests.fakes.azure_front import AzureFront, serving_front
from tests.fakes.entra_server import AUTHORITIES, IDENTITY_HEADER, EntraWorld, RegisteredApp, write_certificate
from tests.fakes.key_vault import StoredSecret, VaultWorld

VAULT = "shop-vault"
APP = "aaaaaaaa-0000-0000-0000-000000000001"
CERTIFICATE_APP = "aaaaaaaa-0000-0000-0000-000000000002"
FEDERATED_APP = "aaaaaaaa-0000-0000-0000-000000000003"
SUBJECT = "system:serviceaccount:logs:blobtide"
CLIENT_SECRET = "s3cret~of.the-application"  # noqa: S105
KEY_PASSWORD = "p4ssword-of-the-key"  # noqa: S105
_VARIABLES = ("CLIENT_ID", "TENANT_ID", "CLIENT_SECRET", "CLIENT_CERTIFICATE_PATH", "FEDERATED_TOKEN_FILE", "AUTHORITY_HOST")


@dataclass(frozen=True, slots=True)
class AzureEstate:
    """What is served, and the files that applications sign in with."""

    front: AzureFront
    entra: EntraWorld
    vault: VaultWorld
    certificate: Path
    token: Path


@contextmanager
def azure_estate(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEstate]:
    """Serve it, and lead clients of this process to it."""
    certificate = directory / "app.pem"
    apps = {
        APP: RegisteredApp(secret=CLIENT_SECRET),
        CERTIFICATE_APP: RegisteredApp(certificate=write_certificate(certificate, KEY_PASSWORD)),
        FEDERATED_APP: RegisteredApp(subject=SUBJECT),
    }
    entra = EntraWorld(apps)
    (directory / "token").write_text(entra.federated_token(SUBJECT))
    vault = VaultWorld(VAULT, entra, {"password": [StoredSecret("old-hunter2"), StoredSecret("hunter2-of-kafka")]})
    for name in _VARIABLES:
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving_front(directory) as front:
        front.sites |= dict.fromkeys(AUTHORITIES, entra.answer)
        front.sites |= {f"{VAULT}.{suffix}": vault.answer for suffix in ("vault.azure.net", "vault.usgovcloudapi.net")}
        front.sites[""] = entra.managed_identity
        identity = {"IDENTITY_ENDPOINT": f"{front.url}/msi/token", "IDENTITY_HEADER": IDENTITY_HEADER}
        for name, value in {**front.variables, **identity}.items():
            monkeypatch.setenv(name, value)
        forget_credentials()
        yield AzureEstate(front, entra, vault, certificate, directory / "token")
        forget_credentials()


def forget_credentials() -> None:
    """Forget the credentials of this process, and their tokens."""
    _credential.cache_clear()
    default_credential.cache_clear()
