"""Signing in to Azure: each kind of credential, with Microsoft's own library, at an authority that verifies it all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.azure.clouds import CLOUD_HOSTS
from libs.common.azure.credentials import credential_of
from libs.common.azure.identity import Identity, NoToken
from libs.common.azure.sign_in_problems import sign_in_problem
from libs.common.errors import ConfigError
from libs.common.settings.azure import AzureSettings, Cloud, CredentialSettings
from tests.azure_estate import (
    APP,
    CERTIFICATE_APP,
    CLIENT_SECRET,
    FEDERATED_APP,
    KEY_PASSWORD,
    AzureEstate,
    azure_estate,
    forget_credentials,
)
from tests.fakes.entra_server import TENANT, IssuedToken, RegisteredApp

SCOPE = "https://vault.azure.net/.default"
PRINCIPAL = {"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret": CLIENT_SECRET}


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEstate]:
    """Azure on this machine."""
    with azure_estate(tmp_path, monkeypatch) as found:
        yield found


def signed_in(azure: dict[str, Any]) -> str:
    """Return a token for key vaults of whoever the settings describe."""
    settings = AzureSettings.model_validate(azure)
    return Identity(credential_of(settings), f"https://{CLOUD_HOSTS[settings.cloud].vaults}/.default").token()


def test_a_service_principal_signs_in_with_its_secret(estate: AzureEstate, tmp_path: Path) -> None:
    """The secret may be a file; a token is asked for once, and is one that the vault accepts."""
    file = tmp_path / "secret"
    file.write_text(f"{CLIENT_SECRET}\n")
    from_file = {**PRINCIPAL, "client_secret_file": str(file)}
    del from_file["client_secret"]
    tokens = {signed_in({"credential": PRINCIPAL}), signed_in({"credential": PRINCIPAL}), signed_in({"credential": from_file})}
    assert len(tokens) == 2, "equal settings share a credential"
    assert estate.entra.issued == [IssuedToken(APP, SCOPE, "secret", "login.microsoftonline.com")] * 2
    assert {estate.entra.who(token, "https://vault.azure.net") for token in tokens} == {APP}


def test_a_service_principal_signs_in_with_its_certificate(estate: AzureEstate, tmp_path: Path) -> None:
    """What it sends is an assertion signed with its key, which the authority verifies; the key's password may be a file."""
    file = tmp_path / "password"
    file.write_text(KEY_PASSWORD)
    certificate = {"certificate_file": str(estate.certificate), "certificate_password_file": str(file)}
    signed_in({"credential": {"kind": "client_certificate", "tenant_id": TENANT, "client_id": CERTIFICATE_APP, **certificate}})
    assert estate.entra.issued == [IssuedToken(CERTIFICATE_APP, SCOPE, "certificate", "login.microsoftonline.com")]
    assert len(estate.entra.seen) == 1


def test_a_workload_identity_signs_in_with_the_token_of_its_pod(estate: AzureEstate, monkeypatch: pytest.MonkeyPatch) -> None:
    """By settings, or by the variables that a cluster sets; the authority verifies the token."""
    named = {"tenant_id": TENANT, "client_id": FEDERATED_APP, "token_file": str(estate.token)}
    signed_in({"credential": {"kind": "workload_identity", **named}})
    variables = {"TENANT_ID": TENANT, "CLIENT_ID": FEDERATED_APP, "FEDERATED_TOKEN_FILE": str(estate.token)}
    for name, value in variables.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    signed_in({"credential": {"kind": "workload_identity"}})
    assert estate.entra.issued == [IssuedToken(FEDERATED_APP, SCOPE, "federated", "login.microsoftonline.com")] * 2


@pytest.mark.parametrize(("client", "named"), [(None, "system-assigned"), (APP, APP)])
@pytest.mark.parametrize("kind", ["default", "managed_identity"])
def test_a_managed_identity_signs_in(estate: AzureEstate, kind: str, client: str | None, named: str) -> None:
    """The one of the machine, or the one that is named."""
    signed_in({"credential": {"kind": kind, "client_id": client}})
    assert estate.entra.issued == [IssuedToken(named, "https://vault.azure.net", "machine", "")]


def test_by_default_the_service_principal_of_the_environment_is_found_first(
    estate: AzureEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ever: by AZURE_... variables."""
    for name, value in {"TENANT_ID": TENANT, "CLIENT_ID": APP, "CLIENT_SECRET": CLIENT_SECRET}.items():
        monkeypatch.setenv(f"AZURE_{name}", value)
    signed_in({})
    assert [token.proof for token in estate.entra.issued] == ["secret"]


@pytest.mark.parametrize(
    ("cloud", "host", "scope"),
    [
        (Cloud.PUBLIC, "login.microsoftonline.com", SCOPE),
        (Cloud.GOVERNMENT, "login.microsoftonline.us", "https://vault.usgovcloudapi.net/.default"),
        (Cloud.CHINA, "login.chinacloudapi.cn", "https://vault.azure.cn/.default"),
    ],
)
def test_each_cloud_has_its_own_authority(estate: AzureEstate, cloud: Cloud, host: str, scope: str) -> None:
    """Secrets of one cloud are never shown to another."""
    signed_in({"cloud": cloud, "credential": PRINCIPAL})
    assert estate.entra.issued == [IssuedToken(APP, scope, "secret", host)]
    assert set(estate.front.tunnels) == {f"{host}:443"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"client_secret": "wr0ng~hunter2"}, "AADSTS7000215.*not one of this application; give its value, not its id"),
        ({"client_id": "aaaaaaaa-0000-0000-0000-000000000009"}, "AADSTS700016.*check tenant_id and client_id"),
        ({"tenant_id": "33333333-3333-3333-3333-333333333333"}, "check tenant_id and azure.cloud"),
    ],
)
def test_a_refusal_is_one_line_with_the_likely_cause(
    estate: AzureEstate, caplog: pytest.LogCaptureFixture, changed: dict[str, str], said: str
) -> None:
    """It shows neither the secret nor what differs each time, and the library says nothing besides."""
    with pytest.raises(NoToken, match=said) as caught:
        signed_in({"credential": {**PRINCIPAL, **changed}})
    text = str(caught.value)
    assert "\n" not in text
    assert "Trace ID" not in text
    assert "hunter2" not in text
    assert CLIENT_SECRET not in text
    assert caplog.records == []


def test_an_expired_secret_a_strange_certificate_and_a_strange_pod_are_told_apart(estate: AzureEstate) -> None:
    """Each has its own advice."""
    estate.entra.apps = {
        APP: RegisteredApp(secret=CLIENT_SECRET, secret_has_expired=True),
        CERTIFICATE_APP: RegisteredApp(),
        FEDERATED_APP: RegisteredApp(subject="system:serviceaccount:other:other"),
    }
    ids = {"tenant_id": TENANT}
    certificate = {"certificate_file": str(estate.certificate), "certificate_password": KEY_PASSWORD}
    tried: list[tuple[dict[str, str], str]] = [
        (PRINCIPAL, "has expired; make a new one"),
        ({"kind": "client_certificate", **ids, "client_id": CERTIFICATE_APP, **certificate}, "not registered"),
        (
            {"kind": "workload_identity", **ids, "client_id": FEDERATED_APP, "token_file": str(estate.token)},
            "issuer and subject",
        ),
    ]
    for credential, said in tried:
        with pytest.raises(NoToken, match=said):
            signed_in({"credential": credential})


def test_a_certificate_that_cannot_be_used_is_a_clear_error(estate: AzureEstate, tmp_path: Path) -> None:
    """No file, no PEM, no key, a wrong password: the setting is named, and no secret shown."""
    base = {"kind": "client_certificate", "tenant_id": TENANT, "client_id": CERTIFICATE_APP}
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n")
    tried = [
        ({"certificate_file": str(tmp_path / "none.pem")}, "azure.credential: cannot read certificate_file"),
        ({"certificate_file": str(rubbish)}, "certificate_file must hold, as PEM, a certificate and its RSA key"),
        ({"certificate_file": str(estate.certificate), "certificate_password": "hunter2-wrong"}, "certificate_password opens"),
    ]
    for given, said in tried:
        with pytest.raises(ConfigError, match=said) as caught:
            credential_of(AzureSettings(credential=CredentialSettings.model_validate({**base, **given})))
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "client_secret"}, "needs tenant_id and client_id and client_secret"),
        ({"kind": "client_certificate", "tenant_id": "t", "client_id": "c"}, "needs certificate_file"),
        ({"client_secret": "x"}, "kind default has no use for client_secret; is it another kind?"),
        ({"kind": "managed_identity", "tenant_id": "t"}, "has no use for tenant_id"),
        ({"kind": "client_secret", "tenant_id": "a/b", "client_id": "c", "client_secret": "s"}, "tenant_id"),
        ({"kind": "password"}, "kind"),
    ],
)
def test_settings_that_do_not_fit_the_kind_are_refused(settings: dict[str, str], said: str) -> None:
    """What is missing and what would be ignored are named."""
    with pytest.raises(ValidationError, match=said):
        CredentialSettings.model_validate(settings)


def test_a_workload_identity_without_its_variables_is_a_clear_error(estate: AzureEstate) -> None:
    """It says what is missing."""
    with pytest.raises(ConfigError, match="of kind workload_identity: set tenant_id, client_id and token_file"):
        credential_of(AzureSettings(credential=CredentialSettings.model_validate({"kind": "workload_identity"})))


def test_a_secret_that_was_replaced_is_used_from_then_on(estate: AzureEstate, tmp_path: Path) -> None:
    """Whoever asks for the credential again reads the file again."""
    file = tmp_path / "secret"
    file.write_text("earlier")
    settings = {"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret_file": str(file)}
    with pytest.raises(NoToken):
        signed_in({"credential": settings})
    file.write_text(CLIENT_SECRET)
    assert signed_in({"credential": settings})


def test_a_long_or_strange_text_of_the_library_stays_one_short_line() -> None:
    """Whatever it says."""
    assert sign_in_problem("") == "no reason given"
    assert sign_in_problem("IMDS endpoint is away\nTo mitigate, see") == (
        "IMDS endpoint is away (this machine has no managed identity, or cannot reach its endpoint)"
    )
    assert len(sign_in_problem("x" * 100_000)) == 400
    forget_credentials()
