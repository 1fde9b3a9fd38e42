"""A local Mosquitto, as installed on the machine: MQTT 5 and 3.1.1 on one port, nothing kept on disk.

Version 2.0.11 does not tell an MQTT 3.1.1 client why it rejects a message: if the client lacks the right, the message is
acknowledged and dropped; if the message is too large, the connection is closed.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.common.security.private_files import private
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls

_ITERATIONS: Final = 101  # as in mosquitto_passwd
_PACKAGED: Final = "/usr/sbin"  # where Debian installs it; not on every user's PATH


@dataclass(frozen=True, slots=True)
class Rules:
    """What the broker requires of its clients. Without a login, it lets everybody in."""

    login: tuple[str, str] | None = None  # user and password
    rights: Sequence[str] = ()  # lines of an ACL file, such as ``topic write flows/#``
    tls: ServerTls | None = None
    max_packet_bytes: int = 0  # 0: as large as MQTT allows
    receive_maximum: int = 20  # messages in flight from an MQTT 5 client


class LocalMosquitto(LocalServer):
    """A single broker. It forgets everything when it ends."""

    name = "mosquitto"

    def __init__(self, data_dir: Path, port: int | None = None, rules: Rules | None = None) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or Rules()

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_mosquitto()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"{'mqtts' if self.rules.tls else 'mqtt'}://{LOOPBACK}:{self.port}"

    def _launch(self) -> Launch:
        program = find_mosquitto()
        config = self._file("mosquitto.conf", self._configuration())
        return Launch((program, "-c", str(config)), ready=lambda: accepts(self.port))

    def _configuration(self) -> list[str]:
        rules = self.rules
        lines = [
            f"user {getpass.getuser()}",  # started as root, it would switch to a user who may not read these files
            f"listener {self.port} {LOOPBACK}",
            f"allow_anonymous {'false' if rules.login else 'true'}",
            f"max_inflight_messages {rules.receive_maximum}",
            "max_queued_messages 0",  # no message is dropped because a subscriber is slow
            "persistence false",
            "log_dest stdout",
        ]
        if rules.login:
            lines.append(f"password_file {self._file('passwords', [_password_line(*rules.login)])}")
        if rules.rights:
            lines.append(f"acl_file {self._file('rights', rules.rights)}")
        if rules.tls:
            lines += [f"certfile {rules.tls.certificate.resolve()}", f"keyfile {rules.tls.key.resolve()}"]
        if rules.max_packet_bytes:
            lines.append(f"max_packet_size {rules.max_packet_bytes}")
        return lines

    def _file(self, name: str, lines: Sequence[str]) -> Path:
        file = self.data_dir.resolve() / name
        with open(file, "w", encoding="utf-8", opener=private) as text:
            text.writelines(f"{line}\n" for line in lines)
        return file


def find_mosquitto(environ: Mapping[str, str] = os.environ) -> str:
    """Return the server program. Raises `ServerMissing`."""
    program = shutil.which("mosquitto", path=os.pathsep.join((environ.get("PATH", ""), _PACKAGED)))
    if program is None:
        raise ServerMissing("mosquitto is not on PATH: install Mosquitto (Debian: mosquitto)")
    return program


def _password_line(user: str, password: str) -> str:
    """Return a password file line like mosquitto_passwd's, which would expose the password on its command line."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, 64)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
