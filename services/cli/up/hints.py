"""Commands that `up` prints for copying into another terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from libs.common.security.private_files import private
from libs.common.settings import Settings, settings_file
from libs.common.settings.kafka import SecurityProtocol
from services.cli.up.mock import MockApi
from services.cli.up.settings import LOGIN

_PROGRAM: Final = "blobtide"


def tail_line(settings: Settings, config: Path | None, bootstrap_servers: str, rows: str = "flows") -> str:
    """Return the command that follows flows or other rows of this run, whichever Kafka the settings name that `tail` reads.

    `config` is the file that `up` itself read; None if `tail` finds the same one by default.
    """
    words = [_own_program(), "tail", "-f", rows, "--bootstrap-servers", bootstrap_servers]
    if config is not None and config != (settings_file() or Path(os.devnull)):
        words += ["--config", str(config.absolute())]
    line = shlex.join(words)
    if settings.kafka.security_protocol is SecurityProtocol.PLAINTEXT:
        return line
    logins = "".join(f"BLOBTIDE_KAFKA__{name.upper()}= " for name in LOGIN if name in settings.kafka.model_fields_set)
    return f"BLOBTIDE_KAFKA__SECURITY_PROTOCOL={SecurityProtocol.PLAINTEXT} {logins}{line}"


def collect_line(config: Path, subscription: str) -> str:
    """Return the command that asks the collector of this run for the machines in a subscription."""
    words = ("collect", "--template", "vms", "--subscription", subscription, "--config", str(config.absolute()))
    return shlex.join((_own_program(), *words))


def progress_line(api: MockApi, data_dir: Path) -> str:
    """Return the command that asks the collector's API how far a request has come, and write the file with its token."""
    file = data_dir.absolute() / "collector-token"
    with open(file, "w", encoding="utf-8", opener=private) as out:
        out.write(api.token)
    header = f"Authorization: Bearer $(cat {shlex.quote(str(file))})"
    return f'curl --header "{header}" {api.url}/collections/ID'


def storage_line(connection_string: str) -> str:
    """Return the command that points Azure's own tools at a storage account."""
    return f"export AZURE_STORAGE_CONNECTION_STRING={shlex.quote(connection_string)}"


def _own_program() -> str:
    """Return the name of this program, or the path by which it was called if the shell would not find it by name."""
    called = Path(sys.argv[0])
    return str(called) if called.name == _PROGRAM and shutil.which(_PROGRAM) is None else _PROGRAM
