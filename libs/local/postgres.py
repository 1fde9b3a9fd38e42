"""A local PostgreSQL, as installed on the machine: one server, TCP only, with everything synced to disk.

PostgreSQL refuses to run as root. Started by root, it therefore runs as the user ``postgres`` (or ``nobody``), who owns the
cluster's files and nothing else, and keeps the one capability by which it reaches them below directories of root.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.common.security.private_files import private
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls
from libs.local.tools import run_tool

ADMIN: Final = "blobtide"
"""The user who owns everything; signs in without a password unless `PostgresRules.password` is set."""

_PACKAGED: Final = Path("/usr/lib/postgresql")  # where Debian installs each version; not on PATH
_USERS: Final = ("postgres", "nobody")
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class PostgresRules:
    """What the server requires of its clients. Without a password, it lets everybody in."""

    password: str | None = None  # of `ADMIN`
    tls: ServerTls | None = None
    settings: Sequence[str] = ()  # such as ``max_connections=10``


class LocalPostgres(LocalServer):
    """A single server with an empty cluster. Committed transactions survive `kill`."""

    name = "postgres"

    def __init__(self, data_dir: Path, port: int | None = None, rules: PostgresRules | None = None) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or PostgresRules()

    @classmethod
    def install(cls) -> None:
        """Check that the programs are installed; they are not fetched."""
        find_postgres()
        _as_other_user()

    @property
    def host(self) -> str:
        """The address for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def cluster(self) -> Path:
        """The directory of the cluster."""
        return self.data_dir.resolve() / "cluster"

    def kill(self) -> None:
        """End it as a power cut would; return when no process of it is left, since one would keep the next from starting."""
        super().kill()
        give_up_at = time.monotonic() + _SECONDS
        while (left := list(_processes_in(self.cluster))) and time.monotonic() < give_up_at:
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    def _launch(self) -> Launch:
        programs, prefix = find_postgres(), _as_other_user()
        if not (self.cluster / "PG_VERSION").exists():
            self._create(programs, prefix)
        self._write_rules()
        listening = (f"listen_addresses={LOOPBACK}", f"port={self.port}", "unix_socket_directories=")
        keep = ("logging_collector=off", "log_destination=stderr", "lc_messages=C", *self._tls(), *self.rules.settings)
        options = [word for setting in (*listening, *keep) for word in ("-c", setting)]
        argv = (*prefix, str(programs / "postgres"), "-D", str(self.cluster), *options)
        return Launch(argv, self._answers, {"LC_ALL": "C.UTF-8"})

    def _answers(self) -> bool:
        return accepts(self.port) and "database system is ready to accept connections" in self.output()

    def _create(self, programs: Path, prefix: Sequence[str]) -> None:
        shutil.rmtree(self.cluster, ignore_errors=True)  # of an earlier attempt
        self.cluster.mkdir(mode=0o700)
        _give_away(self.cluster)
        password = self.data_dir.resolve() / "password"
        with open(password, "w", encoding="utf-8", opener=private) as file:
            file.write(self.rules.password or ADMIN)
        ways = (
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            f"--username={ADMIN}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        try:
            run_tool((*prefix, str(programs / "initdb"), "-D", str(self.cluster), *ways), "initdb", Path("/"))
        finally:
            password.unlink()

    def _write_rules(self) -> None:
        method = "scram-sha-256" if self.rules.password else "trust"
        kind = "hostssl" if self.rules.tls else "host"
        self._owned("pg_hba.conf", f"{kind} all {ADMIN} {LOOPBACK}/32 {method}\n{kind} all all {LOOPBACK}/32 scram-sha-256\n")

    def _tls(self) -> tuple[str, ...]:
        if self.rules.tls is None:
            return ()
        self._owned("server.pem", self.rules.tls.certificate.read_text())
        self._owned("server.key", self.rules.tls.key.read_text())
        return "ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key"

    def _owned(self, name: str, content: str) -> Path:
        """Write a file that only the server's user may read."""
        file = self.cluster / name
        with suppress(FileNotFoundError):
            file.unlink()
        with open(file, "w", encoding="utf-8", opener=private) as text:
            text.write(content)
        _give_away(file)
        return file


def find_postgres(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the server's programs: those on PATH, otherwise Debian's newest. Raises `ServerMissing`."""
    on_path = shutil.which("postgres", path=environ.get("PATH", ""))
    found = [Path(on_path).parent] if on_path else []
    found += sorted(_PACKAGED.glob("*/bin"), key=_version, reverse=True)
    for directory in found:
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            return directory
    raise ServerMissing("postgres and initdb are not on PATH: install PostgreSQL (Debian: postgresql)")


def _version(directory: Path) -> int:
    digits = re.match(r"\d+", directory.parent.name)
    return int(digits[0]) if digits else 0


def _as_other_user() -> tuple[str, ...]:
    """Return what a command begins with so that it does not run as root. Raises `ServerMissing`."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin")))
    if setpriv is None:
        raise ServerMissing("PostgreSQL does not run as root, and setpriv is not on PATH: install util-linux")
    user = _user()
    reach = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override")
    return setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *reach


def _user() -> pwd.struct_passwd:
    for name in _USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing("PostgreSQL does not run as root, and there is no user postgres or nobody to run it")


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        user = _user()
        os.chown(path, user.pw_uid, user.pw_gid)


def _processes_in(directory: Path) -> Iterator[int]:
    """Yield the processes that work in a directory, as every process of a server does in its cluster's."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == directory:
                yield int(entry.name)
