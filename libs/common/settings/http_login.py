"""Ways to sign in over HTTP, as settings: user and password, a bearer token, an API key, and headers of the operator's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from libs.common.errors import ConfigError
from libs.common.http.authorization import authorization
from libs.common.security.redaction import is_secret_name
from libs.common.settings.login import LoginSettings
from libs.common.settings.secrets import read_secret

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,8000}")
# Set by the client, or what a request means depends on them.
_OURS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)


class HttpPasswordSettings(LoginSettings):
    """User and password, as basic authentication."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password",)
    """The secrets of which at most one may be given. Each has a second setting, with the suffix ``_file``."""

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        given = self.secrets_given()
        if len(given) > 1:
            raise ValueError(f"give only one way to sign in, not {' and '.join(given)}")
        return self

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the headers that sign in; empty without any, or if signing in takes a request.

        Raises:
            ConfigError: if a secret cannot be read.
        """
        password = self.read_password()
        if password is None or self.username is None:
            return {}
        return authorization(basic=(self.username, password))

    def secrets_given(self) -> list[str]:
        """Return the names of the secrets that are set."""
        names = sorted(self.ways_to_sign_in)
        return [name for name in names if getattr(self, name) is not None or getattr(self, f"{name}_file") is not None]


class HttpBearerSettings(HttpPasswordSettings):
    """The same, or a bearer token."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password", "bearer_token")

    bearer_token: SecretStr | None = Field(default=None, description="Bearer token.")
    bearer_token_file: Path | None = Field(default=None, description="File that holds the bearer token.")

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the headers that sign in; empty without any. Raises `ConfigError`."""
        token = read_secret("bearer_token", self.bearer_token, self.bearer_token_file)
        return super().sign_in() if token is None else authorization(bearer=token)


class HttpHeaderSettings(HttpBearerSettings):
    """The same, or an API key, and more headers."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password", "bearer_token", "api_key")

    api_key: SecretStr | None = Field(default=None, description="API key, sent in the header api_key_header.")
    api_key_file: Path | None = Field(default=None, description="File that holds the API key.")
    api_key_header: str = Field(default="X-API-Key", description="Name of the header for the API key.")
    headers: dict[str, str] = Field(default_factory=dict, description="More headers of every request, as name: value.")
    header_files: dict[str, Path] = Field(
        default_factory=dict, description="More headers with secret values, as name: file that holds the value."
    )

    @field_validator("api_key_header")
    @classmethod
    def _is_header(cls, name: str) -> str:
        _check_name(name)
        return name

    @model_validator(mode="after")
    def _are_headers(self) -> Self:
        for name in (*self.headers, *self.header_files):
            _check_name(name)
        for name, value in self.headers.items():
            if is_secret_name(name):
                raise ValueError(f"the value of {name} is secret: give it under header_files, as {name}: file")
            if not _VALUE.fullmatch(value):
                raise ValueError(f"the value of {name} must be printable ASCII on one line")
        names = [name.lower() for name in (*self.headers, *self.header_files)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"header {twice[0]} is given twice")
        return self

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the headers that hold them. Raises `ConfigError`."""
        key = read_secret("api_key", self.api_key, self.api_key_file)
        headers = super().sign_in() if key is None else {self.api_key_header: _checked("api_key", key)}
        for name, file in self.header_files.items():
            value = read_secret(f"header_files.{name}", None, file)
            headers[name] = _checked(f"header_files.{name}", value or "")
        return headers


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:100]!r} cannot name a header")
    if name.lower() in _OURS:
        raise ValueError(f"header {name} is set by blobtide")


def _checked(setting: str, value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise ConfigError(f"{setting}: the value of a header must be printable ASCII on one line")
    return value
