"""What was asked for on the command line, and the storage account that it names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from libs.common.errors import ConfigError
from libs.common.settings.storage import StorageAccount
from services.cli.options import load

ALIAS: Final = "demo.local"


class LogSort(Enum):
    """The sorts of logs, which differ in everything but the destination and the time."""

    FLOWS = auto()
    APPLICATIONS = auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command line."""

    config: Path | None
    connection_string: str | None
    connection_string_file: Path | None
    environment: str | None
    directory: Path | None
    nics: int
    tuples_per_minute: float
    kind: str
    pods: int
    lines_per_minute: float
    start: str | None
    minutes: int | None
    hours: int | None
    speed: float
    follow: bool
    seed: int
    upgrade_after: int | None
    pretty: bool
    truth: Path | None

    @property
    def sort(self) -> LogSort:
        """The sort of logs."""
        return LogSort.APPLICATIONS if self.kind == "applogs" else LogSort.FLOWS


def refuse_unclear_destination(asked: Asked) -> None:
    """Raise ConfigError unless there is exactly one destination."""
    names = ["--connection-string", "--connection-string-file", "--environment"]
    names += ["--directory"] if asked.sort is LogSort.APPLICATIONS else []
    ways = (asked.connection_string, asked.connection_string_file, asked.environment, asked.directory)
    if sum(way is not None for way in ways) != 1:
        raise ConfigError(f"no destination: give exactly one of {', '.join(names)}")


def account_of(asked: Asked) -> tuple[StorageAccount, str]:
    """Return the storage account that is the destination, and the alias that prefixes blob ids.

    Raises:
        ConfigError: the environment is unknown.
    """
    if asked.environment is not None:
        return _configured(asked, asked.environment), asked.environment
    secret = SecretStr(asked.connection_string) if asked.connection_string is not None else None
    return StorageAccount(connection_string=secret, connection_string_file=asked.connection_string_file), ALIAS


def _configured(asked: Asked, environment: str) -> StorageAccount:
    subscription, _, name = environment.partition(".")
    subscriptions = load(asked.config).subscriptions
    try:
        return subscriptions[subscription].environments[name].storage
    except KeyError:
        known = sorted(f"{outer}.{inner}" for outer, inside in subscriptions.items() for inner in inside.environments)
        raise ConfigError(
            f"unknown --environment {environment}; environments in the settings: {', '.join(known) or 'none'}"
        ) from None
