"""A local RabbitMQ, as installed on the machine: one node with an Erlang name service of its own, both in one process group.

Nothing is shared with other nodes on the machine: neither the name service (epmd, which would otherwise be left behind) nor the
cookie. Users, virtual hosts and rights come from a file of definitions; `control` is rabbitmqctl.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from libs.common.security.private_files import private
from libs.local.environment import without_secrets
from libs.local.errors import ServerFailed, ServerMissing
from libs.local.ports import LOOPBACK, accepts, free_port
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls

# The programs themselves; those on PATH switch to the user of the packaged server, who may not read our files.
_PACKAGED: Final = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin")
_CONTROL_SECONDS: Final = 60.0
_EXCHANGE: Final = "flowlogs"
# The name service first: the node looks for it, and would start one that outlives both.
_SCRIPT: Final = 'epmd -address "$ERL_EPMD_ADDRESS" -port "$ERL_EPMD_PORT" & exec "$0"'


@dataclass(frozen=True, slots=True)
class User:
    """Who may sign in, and what they may do in one virtual host: regular expressions of names."""

    name: str
    password: str
    vhost: str = "/"
    configure: str = ".*"
    write: str = ".*"
    read: str = ".*"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the server requires of its clients.

    Attributes:
        users: besides guest, who may do everything in all virtual hosts.
        vhosts: besides ``/``.
        tls: opens a second port that requires TLS, where a certificate of one of these authorities signs in the user it names.
        authorities: PEM file.
        queues: durable queues that get everything from the topic exchange ``flowlogs``.
        options: further lines of the configuration.
    """

    users: Sequence[User] = ()
    vhosts: Sequence[str] = ()
    tls: ServerTls | None = None
    authorities: Path | None = None
    queues: Sequence[str] = ()
    options: Sequence[str] = ()


class LocalRabbitMq(LocalServer):
    """A single node. Confirmed persistent messages in durable queues survive `kill`."""

    name = "rabbitmq"

    def __init__(self, data_dir: Path, port: int | None = None, rules: Rules | None = None) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or Rules()

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_rabbitmq()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"amqp://{LOOPBACK}:{self.port}"

    @cached_property
    def tls_port(self) -> int:
        """Where TLS is spoken."""
        return free_port()

    @property
    def tls_url(self) -> str:
        """The address for clients with TLS."""
        return f"amqps://{LOOPBACK}:{self.tls_port}"

    @cached_property
    def _inner_ports(self) -> tuple[int, int]:
        return free_port(), free_port()

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return its output.

        Raises:
            ServerFailed: if it fails.
        """
        program = find_rabbitmq().with_name("rabbitmqctl")
        environ = {**without_secrets(os.environ), **self._environment()}
        done = subprocess.run(
            (str(program), "--quiet", *arguments),
            env=environ,
            capture_output=True,
            text=True,
            timeout=_CONTROL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"rabbitmqctl {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _launch(self) -> Launch:
        program = find_rabbitmq()
        self._file("rabbitmq.conf", "\n".join(self._configuration()) + "\n")
        self._file("definitions.json", json.dumps(self._definitions()))
        self._file("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n")
        self._file("empty.conf", "")
        return Launch(("/bin/sh", "-c", _SCRIPT, str(program)), lambda: accepts(self.port), self._environment())

    def _environment(self) -> dict[str, str]:
        home = self.data_dir.resolve()
        names, distribution = self._inner_ports
        return {
            "HOME": str(home),  # where Erlang looks for its cookie
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_CONF_ENV_FILE": str(home / "empty.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_NODENAME": f"blobtide-{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",  # no waiting by spinning
        }

    def _configuration(self) -> list[str]:
        lines = [
            f"listeners.tcp.1 = {LOOPBACK}:{self.port}",
            f"load_definitions = {self.data_dir.resolve() / 'definitions.json'}",
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = EXTERNAL",
            "disk_free_limit.absolute = 50MB",
            "vm_memory_high_watermark.relative = 0.6",
            "log.console.level = warning",
        ]
        if (tls := self.rules.tls) is not None:
            lines += [
                f"listeners.ssl.1 = {LOOPBACK}:{self.tls_port}",
                f"ssl_options.certfile = {tls.certificate.resolve()}",
                f"ssl_options.keyfile = {tls.key.resolve()}",
                "ssl_cert_login_from = common_name",
            ]
        if self.rules.authorities is not None:
            lines += [f"ssl_options.cacertfile = {self.rules.authorities.resolve()}", "ssl_options.verify = verify_peer"]
        return [*lines, *self.rules.options]

    def _definitions(self) -> dict[str, Any]:
        vhosts = ("/", *self.rules.vhosts)
        guest = [User("guest", "guest", vhost) for vhost in vhosts]
        hashing = {"hashing_algorithm": "rabbit_password_hashing_sha256"}
        users = {user.name: user for user in (*guest, *self.rules.users)}.values()
        return {
            "users": [{"name": user.name, "password_hash": _hash(user.password), "tags": "", **hashing} for user in users],
            "vhosts": [{"name": vhost} for vhost in vhosts],
            **self._topology(),
            "permissions": [
                {"user": user.name, "vhost": user.vhost, "configure": user.configure, "write": user.write, "read": user.read}
                for user in (*guest, *self.rules.users)
            ],
        }

    def _topology(self) -> dict[str, Any]:
        if not self.rules.queues:
            return {}
        common = {"vhost": "/", "arguments": {}}
        lasting = {**common, "durable": True, "auto_delete": False}
        binding = {**common, "source": _EXCHANGE, "destination_type": "queue", "routing_key": "#"}
        return {
            "exchanges": [{**lasting, "name": _EXCHANGE, "type": "topic", "internal": False}],
            "queues": [{**lasting, "name": queue} for queue in self.rules.queues],
            "bindings": [{**binding, "destination": queue} for queue in self.rules.queues],
        }

    def _file(self, name: str, text: str) -> None:
        with open(self.data_dir.resolve() / name, "w", encoding="utf-8", opener=private) as file:
            file.write(text)


def find_rabbitmq(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the server program. Raises `ServerMissing`."""
    found = shutil.which("rabbitmq-server", path=os.pathsep.join((*_PACKAGED, environ.get("PATH", ""))))
    if found is None:
        raise ServerMissing("rabbitmq-server is not on PATH: install RabbitMQ (Debian: rabbitmq-server)")
    return Path(found)


def _hash(password: str) -> str:
    """Return a password as RabbitMQ stores it."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
