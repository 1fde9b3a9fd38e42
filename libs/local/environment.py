"""The environment of a child process, without our secrets: anybody who can inspect the process can read its environment.

All of our own settings are left out, since any of them may contain a login. Other variables are left out if they sign in to a
cloud, are named like a secret, or contain a URL with a user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# Ours, but not settings.
_OWN: Final = frozenset({"BLOBTIDE_HOME", "BLOBTIDE_CRASH_POINT"})
_SETTING: Final = re.compile(r"BLOBTIDE_", re.IGNORECASE)
_NAMES: Final = re.compile(
    r"passw|passphrase|secret|token|credential|connection_?string|signature|(^|_)(api_?|access_?|account_?)?key(s|_|$)|(^|_)sas(_|$)",
    re.IGNORECASE,
)
_USER_IN_URL: Final = re.compile(r"://[^/\s]*@")
# What azure-identity reads: service principals, workload and managed identities, the cloud, and proxies.
_IDENTITY: Final = re.compile(r"(AZURE|IDENTITY|MSI|IMDS)_|(HTTPS?|ALL|NO)_PROXY$", re.IGNORECASE)


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that are safe for any child."""
    return {name: value for name, value in environ.items() if name in _OWN or not _is_secret(name, value)}


def identity_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that a process needs to sign in to Azure."""
    return {name: value for name, value in environ.items() if _IDENTITY.match(name)}


def _is_secret(name: str, value: str) -> bool:
    if _SETTING.match(name) or _NAMES.search(name) or _USER_IN_URL.search(value):
        return True
    return _IDENTITY.match(name) is not None and not name.upper().endswith("_PROXY")
