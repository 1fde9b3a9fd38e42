"""The credential that the settings describe, in the form of azure-identity. Reads secret files; sends nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from libs.common.azure.clouds import CLOUD_HOSTS
from libs.common.azure.identity import default_credential
from libs.common.errors import ConfigError
from libs.common.security.redaction import excerpt
from libs.common.settings.azure import AzureSettings, CredentialKind, CredentialSettings
from libs.common.settings.text_file import read_text_file

_ADVICE: Final = {
    CredentialKind.WORKLOAD_IDENTITY: "set tenant_id, client_id and token_file, unless AZURE_... variables say them: ",
    CredentialKind.CLIENT_CERTIFICATE: "certificate_file must hold, as PEM, a certificate and its RSA key, which "
    "certificate_password opens: ",
}


def credential_of(azure: AzureSettings) -> Any:
    """Return the credential; equal settings share one, and with it its tokens, as long as its secret is the same.

    Raises:
        ConfigError: if a secret or certificate cannot be used; the message names the setting and shows no secret.
        ModuleNotFoundError: if the extra ``azure`` is not installed.
    """
    settings, authority = azure.credential, CLOUD_HOSTS[azure.cloud].authority
    if settings.kind is CredentialKind.DEFAULT:
        return default_credential(settings.client_id, authority)
    try:
        certificate = _text(settings.certificate_file)
        secret = settings.read_client_secret() or settings.read_certificate_password()
        return _credential(settings, authority, certificate, secret)
    except ConfigError as error:
        raise ConfigError(f"azure.credential: {error}") from error
    # Of azure-identity: ids that are none, a certificate that is none, a wrong password, variables that are missing.
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"azure.credential of kind {settings.kind}: {_ADVICE.get(settings.kind, '')}{excerpt(str(error))}"
        ) from error


@cache
def _credential(settings: CredentialSettings, authority: str | None, certificate: str | None, secret: str | None) -> Any:
    from azure import identity

    options: dict[str, Any] = {"authority": authority} if authority else {}
    match settings.kind:
        case CredentialKind.MANAGED_IDENTITY:
            return identity.ManagedIdentityCredential(client_id=settings.client_id)
        case CredentialKind.WORKLOAD_IDENTITY:
            ids = {"tenant_id": settings.tenant_id, "client_id": settings.client_id}
            given = {**ids, "token_file_path": settings.token_file and str(settings.token_file)}
            known: dict[str, Any] = {name: value for name, value in given.items() if value}  # others come from the environment
            return identity.WorkloadIdentityCredential(**known, **options)
        case CredentialKind.CLIENT_CERTIFICATE:
            data = (certificate or "").encode()
            return identity.CertificateCredential(*_principal(settings), certificate_data=data, password=secret, **options)
        case _:
            return identity.ClientSecretCredential(*_principal(settings), secret or "", **options)


def _principal(settings: CredentialSettings) -> tuple[str, str]:
    return settings.tenant_id or "", settings.client_id or ""


def _text(file: Path | None) -> str | None:
    return read_text_file(file, "certificate_file") if file is not None else None
