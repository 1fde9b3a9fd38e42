"""A plain client of etcd's JSON gateway, for looking at what a sink wrote and for administering a server."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, how often it was put, and its lease (0: none)."""

    key: str
    value: bytes
    version: int
    lease: int


class EtcdClient:
    """Calls to one member."""

    def __init__(self, url: str, ca_file: Path | None = None, client: tuple[Path, Path] | None = None) -> None:
        self._url = url
        cert, key = (str(file) for file in client) if client else (None, None)
        self._pool = urllib3.PoolManager(
            ca_certs=str(ca_file) if ca_file else None, cert_file=cert, key_file=key, timeout=10, retries=False
        )
        self.token: str | None = None

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """Make a call and return its response; it must succeed."""
        headers = {"Authorization": self.token} if self.token else {}
        answer = self._pool.request("POST", f"{self._url}/v3{path}", body=json.dumps(body).encode(), headers=headers)
        assert answer.status == 200, (path, answer.status, answer.data)
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def entries(self, prefix: str) -> list[Entry]:
        """Return all keys below a prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.ask("/kv/range", key=_text(prefix), range_end=_text(end)).get("kvs", [])
        return [
            Entry(
                base64.b64decode(one["key"]).decode(),
                base64.b64decode(one.get("value", "")),
                int(one["version"]),
                int(one.get("lease", 0)),
            )
            for one in found
        ]

    def alarm(self, action: str) -> None:
        """Raise (ACTIVATE) or lift (DEACTIVATE) the alarm of a full database."""
        member = self.ask("/maintenance/status")["header"]["member_id"]
        self.ask("/maintenance/alarm", action=action, memberID=member, alarm="NOSPACE")

    def leases(self) -> list[int]:
        """Return all leases."""
        return [int(one["ID"]) for one in self.ask("/lease/leases").get("leases", [])]

    def require_sign_in(self, root_password: str) -> None:
        """Enable users, with root as the first, and sign in as root."""
        self.ask("/auth/user/add", name="root", password=root_password)
        self.ask("/auth/user/grant", user="root", role="root")
        self.ask("/auth/enable")
        self.sign_in(root_password)

    def sign_in(self, root_password: str) -> None:
        """Sign in as root."""
        self.token = None
        self.token = self.ask("/auth/authenticate", name="root", password=root_password)["token"]

    def add_user(self, name: str, password: str, prefix: str) -> None:
        """Add a user who may read and write below a prefix."""
        self.ask("/auth/user/add", name=name, password=password)
        self.ask("/auth/role/add", name=name)
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        permission = {"permType": "READWRITE", "key": _text(prefix), "range_end": _text(end)}
        self.ask("/auth/role/grant", name=name, perm=permission)
        self.ask("/auth/user/grant", user=name, role=name)


def _text(key: str) -> str:
    return base64.b64encode(key.encode()).decode()
