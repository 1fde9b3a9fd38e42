"""A local Snowflake: fakesnow, which speaks Snowflake's protocol and runs its SQL on DuckDB, in a process of its own.

Its clients are those of Snowflake, which upload files, copy and merge them as they do there. Committed rows survive `kill`,
sessions do not. It has no rights, no locks and no warehouses: the process around fakesnow (`snowflake_http.py`) checks the
sign-in, and that database, schema and warehouse exist.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from libs.local import snowflake_http
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls

DATABASE: Final = "BLOBTIDE"
"""The database that is there, with the schema PUBLIC."""

WAREHOUSE: Final = "LOADING"
"""The only warehouse, and the one of a session that names none."""


@dataclass(frozen=True, slots=True)
class SnowflakeRules:
    """Who may sign in: users with a password, with a public key (PEM), OAuth tokens. Without any, everybody may."""

    passwords: Mapping[str, str] = field(default_factory=dict)
    public_keys: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()


class LocalSnowflake(LocalServer):
    """An account with one database. Committed rows survive `kill`."""

    name = "snowflake"

    def __init__(
        self, data_dir: Path, port: int | None = None, rules: SnowflakeRules | None = None, tls: ServerTls | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or SnowflakeRules()
        self.tls = tls

    @classmethod
    def install(cls) -> None:
        """Check that fakesnow is installed; it is not fetched."""
        if any(importlib.util.find_spec(name) is None for name in ("fakesnow", "uvicorn")):
            raise ServerMissing("fakesnow is not installed: pip install 'fakesnow[server]'")

    @property
    def url(self) -> str:
        """The URL of the account."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def login(self) -> dict[str, Any]:
        """The options of a sink that signs in, where everybody may."""
        return {"account": "local", "url": self.url, "username": "blobtide", "password": "any", "database": DATABASE}

    def _launch(self) -> Launch:
        self.install()
        files = (str(self.tls.certificate), str(self.tls.key)) if self.tls else ()
        # Started by file name: a module would have to be importable from wherever it is started.
        argv = (sys.executable, "-I", snowflake_http.__file__, str(self.port), str(self.data_dir.resolve()), *files)
        given = {**asdict(self.rules), "database": DATABASE, "warehouse": WAREHOUSE}
        return Launch(argv, lambda: accepts(self.port), {snowflake_http.RULES: json.dumps(given)})
