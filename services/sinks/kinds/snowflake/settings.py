"""Options of the snowflake sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from libs.common.errors import ConfigError
from libs.common.settings.address import split_address
from libs.common.settings.login import LoginSettings
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import PlaintextSettings
from services.sinks.frame.settings import BatchSettings, SinkSettings

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_$]{0,254}"
_FORM: Final = "https://host[:port]"
_DOMAIN: Final = "snowflakecomputing.com"
_PORTS: Final = {"https": 443, "http": 80}

Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
TablePath = Annotated[str, StringConstraints(pattern=rf"^(?:{_NAME}\.)?{_NAME}$")]
Account = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,4}$", max_length=255)]


class SnowflakeBatchSettings(BatchSettings):
    """Larger and less frequent: a load keeps the warehouse running, which costs as long as it runs."""

    seconds: float = Field(
        default=60.0, gt=0, le=3_600, description="Seconds for which one poll collects messages: the interval of loads."
    )
    messages: int = Field(default=100_000, ge=1, description="Messages after which a poll ends early.")
    bytes: int = Field(default=16_777_216, ge=100_000, description="Bytes after which a poll ends early.")


class SnowflakeSettings(SinkSettings, LoginSettings, PlaintextSettings):
    """sinks.snowflake."""

    users_need_password: ClassVar[bool] = False

    batch: SnowflakeBatchSettings = SnowflakeBatchSettings()
    account: Account = Field(description="Identifier of the account, as ORGANIZATION-ACCOUNT or LOCATOR.REGION.CLOUD.")
    url: str | None = Field(
        default=None,
        description="URL of the account, for PrivateLink or another domain. Default: https://ACCOUNT.snowflakecomputing.com.",
    )
    username: str | None = Field(default=None, description="Login name of the user.")
    password: SecretStr | None = Field(default=None, description="Password, or programmatic access token, of the user.")
    password_file: Path | None = Field(default=None, description="File that holds the password or programmatic access token.")
    private_key_file: Path | None = Field(
        default=None, description="PEM file with the private key of the user's key pair, to sign in without a password."
    )
    private_key_passphrase: SecretStr | None = Field(default=None, description="Passphrase of an encrypted private key.")
    private_key_passphrase_file: Path | None = Field(default=None, description="File that holds the passphrase.")
    oauth_token: SecretStr | None = Field(default=None, description="OAuth access token, to sign in without a password.")
    oauth_token_file: Path | None = Field(
        default=None, description="File that holds the OAuth access token; read again at every sign-in."
    )
    role: Name | None = Field(default=None, description="Role of the session. Default: the user's default role.")
    warehouse: Name | None = Field(default=None, description="Warehouse that loads. Default: the user's default warehouse.")
    database: Name = Field(description="Database of the table.")
    table: TablePath | None = Field(
        default=None, description="Name of the table, perhaps with its schema before a dot. Default: PUBLIC and the row type."
    )
    retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which sink-maintain deletes rows, by their own time. 0: never."
    )
    insert_rows: int = Field(default=500_000, ge=1, le=1_000_000, description="Maximum number of rows per load.")
    timeout_seconds: float = Field(
        default=300.0,
        gt=0,
        le=3_600,
        description="Maximum seconds for a sign-in, an upload or a statement, which includes the start of the warehouse.",
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is not None and split_address(url, _PORTS, _FORM).path.strip("/"):
            raise ValueError(f"give the address as {_FORM}, without a path")
        return url

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        ways = [name for name, given in self._ways() if given]
        if len(ways) != 1:
            given = f", not {' and '.join(ways)}" if ways else ""
            raise ValueError(f"give one way to sign in: {', '.join(name for name, _ in self._ways())}{given}")
        if self.username is None and ways != ["oauth_token"]:
            raise ValueError(f"username and {ways[0]} must be given together")
        if self.private_key_file is None and (self.private_key_passphrase or self.private_key_passphrase_file):
            raise ValueError("private_key_passphrase is for private_key_file")
        return self

    def _ways(self) -> Iterator[tuple[str, bool]]:
        yield "private_key_file", self.private_key_file is not None
        yield "password", (self.password or self.password_file) is not None
        yield "oauth_token", (self.oauth_token or self.oauth_token_file) is not None

    @property
    def address(self) -> SplitResult:
        """The URL of the account, in parts; the port is given."""
        parts = urlsplit(self.url or f"https://{self.account}.{_DOMAIN}".replace("_", "-"))
        return parts._replace(netloc=f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}")

    def table_path(self, row_type: str) -> tuple[str, str, str]:
        """Return database, schema and table, in capitals: Snowflake's form of names that are written without quotes."""
        schema, _, table = (self.table or row_type).rpartition(".")
        return self.database.upper(), (schema or "public").upper(), table.upper()

    def read_passphrase(self) -> str | None:
        """Return the passphrase of the private key, or None if none is set. Raises `ConfigError`."""
        return read_secret("private_key_passphrase", self.private_key_passphrase, self.private_key_passphrase_file)

    def read_token(self) -> str:
        """Return the OAuth token. Raises `ConfigError`."""
        token = read_secret("oauth_token", self.oauth_token, self.oauth_token_file)
        if token is None:
            raise ConfigError("oauth_token is not set")
        return token
