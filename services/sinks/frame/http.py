"""Destinations that are reached over HTTP: one group of settings for their addresses, sign-in, TLS and patience.

A kind derives its settings from `HttpHostsSettings`, or from `HttpTokenSettings` if the destination also accepts bearer tokens,
and declares `hosts` again if it has a default address. It passes ``settings.cluster(KIND)`` to an `HttpClient`.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field, field_validator

from libs.common.http.client import Cluster, Tls
from libs.common.security.transport import guard_addresses
from libs.common.settings.address import split_address
from libs.common.settings.base import listed
from libs.common.settings.http_login import HttpBearerSettings, HttpPasswordSettings
from libs.common.settings.transport import TlsSettings

_FORM: Final = "http(s)://host[:port][/path]"
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9.\[\]:_/~-]*")


class HttpHostsSettings(HttpPasswordSettings, TlsSettings):
    """Equivalent servers that speak HTTP, and how to sign in to them with user and password."""

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
        guard_addresses(to, self.hosts, self, signs_in=bool(headers or self.secrets_given()))
        tls = Tls(self.verify, self.ca_file, self.cert_file, self.key_file)
        return Cluster(self.hosts, headers, tls, self.timeout_seconds, connections)


class HttpTokenSettings(HttpBearerSettings, HttpHostsSettings):
    """The same, for servers that also accept a bearer token."""
