"""Connection strings of Event Hubs: ``Endpoint=sb://NAMESPACE/;SharedAccessKeyName=...;SharedAccessKey=...;EntityPath=HUB``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from libs.common.errors import ConfigError
from libs.common.security.redaction import remember


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """What a connection string says besides its secrets.

    Attributes:
        namespace: the host name of the namespace.
        hub: the only event hub that it is for; None: all of the namespace.
    """

    namespace: str
    hub: str | None = None

    @classmethod
    def parse(cls, text: str, setting: str) -> Self:
        """Parse a connection string. No message quotes any of it but names.

        Raises:
            ConfigError: if it is none, or lacks something.
        """
        parts = _parts(text, setting)
        if "accountname" in parts:
            raise ConfigError(f"{setting} is a connection string of a storage account, not of an Event Hubs namespace")
        namespace = urlsplit(parts.get("endpoint", ""))
        if namespace.scheme != "sb" or not namespace.hostname:
            raise ConfigError(f"{setting} has no Endpoint=sb://...: copy the whole connection string of the namespace or hub")
        has_key = bool(parts.get("sharedaccesskeyname") and parts.get("sharedaccesskey"))
        if not has_key and not parts.get("sharedaccesssignature"):
            raise ConfigError(f"{setting} has no SharedAccessKeyName with SharedAccessKey, and no SharedAccessSignature")
        remember(parts.get("sharedaccesskey") or parts.get("sharedaccesssignature", ""))
        return cls(namespace.hostname, parts.get("entitypath") or None)


def _parts(text: str, setting: str) -> Mapping[str, str]:
    """Return values by their names in lower case. Values may contain an equals sign, but no semicolon."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{setting} is no connection string: it consists of NAME=VALUE, separated by semicolons")
        found[name.strip().lower()] = value.strip()
    return found
