"""Destinations that are reached over HTTP: one group of settings for their addresses, sign-in, TLS and patience.

A kind derives its settings from `HttpHostsSettings`, or from `HttpTokenSettings` if the destination also accepts bearer tokens,
and declares `hosts` again if it has a default address. It passes ``settings.cluster(KIND)`` to an `HttpClient`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from libs.common.http.client import Cluster, Tls, authorization
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.base import listed
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.address import split_address
from services.sinks.frame.login import LoginSettings

_FORM: Final = "http(s)://host[:port][/path]"
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9.\[\]:_/~-]*")


class HttpHostsSettings(LoginSettings, TlsSettings):
    """Equivalent servers that speak HTTP, and how to sign in to them with user and password."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password",)
    """The secrets of which at most one may be given. Each has a second setting, with the suffix ``_file``."""

    hosts: tuple[str, ...] = Field(min_length=1, description="URLs, used in rotation: a list, or comma-separated.")
    timeout_seconds: float = Field(default=30.0, gt=0, le=50, description="Maximum seconds to wait for a response.")

    @field_validator("hosts", mode="before")
    @classmethod
    def _hosts_listed(cls, hosts: object) -> object:
        return listed(hosts)

    @field_validator("hosts")
    @classmethod
    def _hosts_are_addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            split_address(host, ("http", "https"), _FORM)
            if not _CHARACTERS.fullmatch(host):
                raise ValueError(f"give addresses as {_FORM}")
        return hosts

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        given = self._given()
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

    def cluster(self, to: str, connections: int = 1) -> Cluster:
        """Read the secrets, check the TLS files, and return the connection parameters.

        Args:
            to: names the destination in errors and warnings.
            connections: how many to keep open to each host: the number of concurrent requests.

        Raises:
            ConfigError: if a file cannot be read, or credentials would be sent unencrypted without permission.
        """
        headers = self.sign_in()
        self.check_files()
        if headers or self._given():
            guard_credentials(to, [host for host in self.hosts if is_plain(host, "https")], self)
        if not self.verify and any(host.startswith("https:") for host in self.hosts):
            note(to, Lack.VERIFICATION)
        tls = Tls(self.verify, self.ca_file, self.cert_file, self.key_file)
        return Cluster(self.hosts, headers, tls, self.timeout_seconds, connections)

    def _given(self) -> list[str]:
        """Return the names of the secrets that are set."""
        names = sorted(self.ways_to_sign_in)
        return [name for name in names if getattr(self, name) is not None or getattr(self, f"{name}_file") is not None]


class HttpTokenSettings(HttpHostsSettings):
    """The same, for servers that also accept a bearer token."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password", "bearer_token")

    bearer_token: SecretStr | None = Field(default=None, description="Bearer token.")
    bearer_token_file: Path | None = Field(default=None, description="File that holds the bearer token.")

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the headers that sign in; empty without any. Raises `ConfigError`."""
        token = read_secret("bearer_token", self.bearer_token, self.bearer_token_file)
        return super().sign_in() if token is None else authorization(bearer=token)
