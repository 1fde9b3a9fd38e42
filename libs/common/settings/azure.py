"""Azure as a whole: which cloud, and as whom its services are signed in to. One group, shared by all that sign in there."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final, Self

from pydantic import Field, SecretStr, model_validator

from libs.common.settings.base import Group
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import PlaintextSettings

_TENANT: Final = r"^[A-Za-z0-9.-]{1,255}$"  # it becomes part of the path of the token endpoint
_CLIENT: Final = r"^[A-Za-z0-9-]{1,64}$"


class Cloud(StrEnum):
    """The clouds of Azure."""

    PUBLIC = "public"
    GOVERNMENT = "government"
    CHINA = "china"


class CredentialKind(StrEnum):
    """The ways to sign in."""

    DEFAULT = "default"  # service principal of the environment, else workload identity, else managed identity
    MANAGED_IDENTITY = "managed_identity"
    WORKLOAD_IDENTITY = "workload_identity"
    CLIENT_SECRET = "client_secret"  # noqa: S105 - the name of a kind
    CLIENT_CERTIFICATE = "client_certificate"


_PRINCIPAL: Final = ("tenant_id", "client_id")
# What each kind needs, and what it takes besides.
_NEEDED: Final = {
    CredentialKind.CLIENT_SECRET: (*_PRINCIPAL, "client_secret"),
    CredentialKind.CLIENT_CERTIFICATE: (*_PRINCIPAL, "certificate_file"),
}
_OPTIONAL: Final = {
    CredentialKind.DEFAULT: ("client_id",),
    CredentialKind.MANAGED_IDENTITY: ("client_id",),
    CredentialKind.WORKLOAD_IDENTITY: (*_PRINCIPAL, "token_file"),
    CredentialKind.CLIENT_CERTIFICATE: ("certificate_password",),
}
_FILES: Final = ("certificate_file", "token_file")  # settings that are always files


class CredentialSettings(Group):
    """Who signs in to Azure, and how. A secret of it cannot come from a key vault, because it opens the key vaults."""

    kind: CredentialKind = Field(
        default=CredentialKind.DEFAULT,
        description="default: the service principal in AZURE_... variables, else a workload identity, else a managed identity.",
    )
    tenant_id: str | None = Field(
        default=None, pattern=_TENANT, description="Tenant. Of a workload identity, default: $AZURE_TENANT_ID."
    )
    client_id: str | None = Field(
        default=None,
        pattern=_CLIENT,
        description="Client id of the service principal, or of a user-assigned managed identity. Of a workload identity, "
        "default: $AZURE_CLIENT_ID.",
    )
    client_secret: SecretStr | None = Field(default=None, description="Secret of the service principal.")
    client_secret_file: Path | None = Field(default=None, description="File that holds the secret of the service principal.")
    certificate_file: Path | None = Field(
        default=None, description="PEM file with the certificate of the service principal and its RSA key."
    )
    certificate_password: SecretStr | None = Field(default=None, description="Password of the key in certificate_file.")
    certificate_password_file: Path | None = Field(default=None, description="File that holds the password of the key.")
    token_file: Path | None = Field(
        default=None, description="File with the token of a workload identity. Default: $AZURE_FEDERATED_TOKEN_FILE."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        names = (name for name, value in self if name != "kind" and value is not None)
        given = {name if name in _FILES else name.removesuffix("_file") for name in names}
        needed = _NEEDED.get(self.kind, ())
        if missing := [name for name in needed if name not in given]:
            raise ValueError(f"kind {self.kind} needs {' and '.join(missing)}")
        if unused := sorted(given - {*needed, *_OPTIONAL.get(self.kind, ())}):
            raise ValueError(f"kind {self.kind} has no use for {' and '.join(unused)}; is it another kind?")
        return self

    def read_client_secret(self) -> str | None:
        """Return the secret, or None if none is set. Raises `ConfigError`."""
        return read_secret("client_secret", self.client_secret, self.client_secret_file)

    def read_certificate_password(self) -> str | None:
        """Return the password of the key, or None if none is set. Raises `ConfigError`."""
        return read_secret("certificate_password", self.certificate_password, self.certificate_password_file)


class AzureSettings(Group):
    """The cloud, and as whom its services are signed in to."""

    described_at: ClassVar[str] = "`azure` at the top"
    """Where the settings are described, which may stand in several groups."""

    cloud: Cloud = Field(default=Cloud.PUBLIC, description="Cloud: determines where tokens come from, and names of hosts.")
    credential: CredentialSettings = CredentialSettings()


class AzureLoginSettings(PlaintextSettings):
    """For anything that may sign in to a service of Azure as an identity."""

    managed_identity_client_id: str | None = Field(
        default=None, description="Client id of a user-assigned identity; the short form of azure.credential.client_id."
    )
    azure: AzureSettings | None = Field(
        default=None, description="Cloud and credential, if they differ from those under `azure` at the top."
    )

    @model_validator(mode="after")
    def _has_one_identity(self) -> Self:
        given = self.azure is not None and self.azure.credential != CredentialSettings()
        if given and self.managed_identity_client_id is not None:
            raise ValueError("give managed_identity_client_id or azure.credential, not both")
        return self

    def with_default(self, shared: AzureSettings) -> Self:
        """Return the same with what is set for all of Azure, where it sets nothing itself."""
        if self.azure is not None:
            return self
        own = shared if self.managed_identity_client_id is None else AzureSettings(cloud=shared.cloud)
        return self.model_copy(update={"azure": own})

    @property
    def identity(self) -> AzureSettings:
        """The cloud, and who signs in."""
        azure = self.azure or AzureSettings()
        if self.managed_identity_client_id is None:
            return azure
        return azure.model_copy(update={"credential": CredentialSettings(client_id=self.managed_identity_client_id)})
