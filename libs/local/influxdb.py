"""A local InfluxDB 1, as installed on the machine."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from libs.common.security.private_files import private
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, free_port
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls

_PACKAGED: Final = "/usr/sbin"


@dataclass(frozen=True, slots=True)
class InfluxRules:
    """What the server requires of its clients, and its limits."""

    has_users: bool = False  # nobody is let in without a password; the first request may create an administrator
    tls: ServerTls | None = None
    max_body_bytes: int = 25_000_000
    max_series: int = 1_000_000


class LocalInfluxDB(LocalServer):
    """One node. Acknowledged points survive `kill`."""

    name = "influxdb"

    def __init__(self, data_dir: Path, port: int | None = None, rules: InfluxRules | None = None) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or InfluxRules()

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_influxd()

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"{'https' if self.rules.tls else 'http'}://{LOOPBACK}:{self.port}"

    @cached_property
    def _backup_port(self) -> int:
        return free_port()

    def _launch(self) -> Launch:
        file = self.data_dir.resolve() / "influxdb.conf"
        with open(file, "w", encoding="utf-8", opener=private) as config:
            config.writelines(f"{line}\n" for line in self._configuration())
        # It would write its history and its name into the home directory.
        return Launch((find_influxd(), "run", "-config", str(file)), self._answers, {"HOME": str(self.data_dir.resolve())})

    def _configuration(self) -> list[str]:
        data, rules = self.data_dir.resolve(), self.rules
        sections: dict[str, dict[str, Any]] = {
            "": {"reporting-disabled": True, "bind-address": f"{LOOPBACK}:{self._backup_port}"},
            "meta": {"dir": str(data / "meta")},
            "data": {
                "dir": str(data / "data"),
                "wal-dir": str(data / "wal"),
                "query-log-enabled": False,
                "max-series-per-database": rules.max_series,
            },
            "monitor": {"store-enabled": False},
            "logging": {"level": "warn"},
            "http": {
                "bind-address": f"{LOOPBACK}:{self.port}",
                "auth-enabled": rules.has_users,
                "log-enabled": False,
                "max-body-size": rules.max_body_bytes,
                **({"https-enabled": True, **_tls(rules.tls)} if rules.tls else {}),
            },
            "continuous_queries": {"enabled": False},
        }
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]"] if section else []
            lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
        return lines

    def _answers(self) -> bool:
        """Return whether it responds; checking its certificate is left to its clients."""
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        address = (LOOPBACK, self.port)
        connection = (
            http.client.HTTPSConnection(*address, timeout=5, context=context)
            if self.rules.tls
            else http.client.HTTPConnection(*address, timeout=5)
        )
        try:
            with closing(connection):
                connection.request("GET", "/ping")
                return connection.getresponse().status == http.HTTPStatus.NO_CONTENT
        except (OSError, http.client.HTTPException):
            return False


def find_influxd(environ: Mapping[str, str] = os.environ) -> str:
    """Return the server program. Raises `ServerMissing`."""
    program = shutil.which("influxd", path=os.pathsep.join((environ.get("PATH", ""), _PACKAGED)))
    if program is None:
        raise ServerMissing("influxd is not on PATH: install InfluxDB 1 (Debian: influxdb)")
    return program


def _tls(tls: ServerTls) -> dict[str, str]:
    return {"https-certificate": str(tls.certificate.resolve()), "https-private-key": str(tls.key.resolve())}


def _toml(value: bool | int | str) -> str:  # noqa: FBT001
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
