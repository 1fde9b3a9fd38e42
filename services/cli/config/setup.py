"""``blobtide setup-config``: write the settings file with the storage accounts, from answers, options or an older file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from libs.common.errors import ConfigError
from libs.common.settings.loader import read_groups
from libs.common.settings.selectors import PRESETS
from libs.common.settings.yaml_file import read_yaml
from services.cli.config.environments import Contents, EnvironmentName, Values, converted, merged, source
from services.cli.config.written import others_may_read, text_of, write
from services.cli.help_text import examples
from services.cli.terminal import say, show

_OLDER: Final = (".commerce-logs-pipeline", ".cch-log-sync")
_HIDDEN: Final = "***"
_WAYS: Final = {"key": "account_key", "sas": "sas_token", "connection-string": "connection_string"}
_IDENTITY: Final = "identity"
_Path: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of the command line; what is missing is asked for at a terminal."""

    file: Path
    older: Path | None
    subscription: str | None
    environment: str | None
    account_name: str | None
    account_key_file: Path | None
    sas_token_file: Path | None
    connection_string_file: Path | None
    identity: bool
    contents: str | None
    container: str | None
    selectors: tuple[str, ...]
    replace: bool
    dry_run: bool

    @property
    def sign_in(self) -> Values:
        """Settings of the chosen ways to sign in; the secrets stay in their files."""
        files = {
            "account_key_file": self.account_key_file,
            "sas_token_file": self.sas_token_file,
            "connection_string_file": self.connection_string_file,
        }
        return {name: str(path.expanduser().absolute()) for name, path in files.items() if path is not None}

    @property
    def names_something(self) -> bool:
        """Whether the options describe an environment, if only in part."""
        own = (self.subscription, self.environment, self.account_name, self.contents, self.container)
        return any(own) or bool(self.sign_in) or self.identity or bool(self.selectors)


@click.command(
    "setup-config",
    epilog=examples(
        "blobtide setup-config                                   # asks for everything",
        "blobtide setup-config --from ~/.commerce-logs-pipeline/config.yaml",
        "blobtide setup-config --subscription shop --environment prod --account-name shoplogs \\",
        "    --account-key-file key.txt --contents vnet-flow-logs",
    ),
)
@click.option("--file", type=_Path, default=None, help="Settings file to write or add to. Default: ~/.blobtide/config.yaml.")
@click.option("--from", "older", type=_Path, help="Take the environments from a settings file of the Commerce Logs Pipeline.")
@click.option("--subscription", help="Name of the subscription, chosen by you; blobs are known by it.")
@click.option("--environment", help="Name of the environment in it, such as prod.")
@click.option("--account-name", help="Name of the storage account.")
@click.option("--account-key-file", type=_Path, help="File that holds the account key.")
@click.option("--sas-token-file", type=_Path, help="File that holds a shared access signature with read and list permissions.")
@click.option("--connection-string-file", type=_Path, help="File that holds a connection string.")
@click.option("--identity", is_flag=True, help="Sign in with the identity of whoever runs the services, without a secret.")
@click.option("--contents", type=click.Choice([kind.value for kind in Contents]), help="What the container holds.")
@click.option("--container", help="Name of the container. Default: the one that such logs are usually in.")
@click.option("--selector", "selectors", multiple=True, help=f"Service to follow; may be repeated: {', '.join(PRESETS)}.")
@click.option("--replace", is_flag=True, help="Replace an environment that is in the file already.")
@click.option("--dry-run", is_flag=True, help="Print what would be added, secrets hidden, and write nothing.")
def command(**options: Any) -> None:
    """Write the settings file with the storage accounts to read, or add one to it.

    Without options, everything is asked for. The file is readable by its owner only. If there is one, the others of its
    settings are kept, though not its comments, and the previous file is kept beside it with the suffix .bak.
    """
    file = options.pop("file") or Path.home() / ".blobtide" / "config.yaml"
    asked = _with_older(_Asked(file=file, **options))
    new = _converted(asked.older) if asked.older is not None else _described(asked)
    values = merged(read_groups(file) if file.exists() else {}, new, replace=asked.replace)
    if asked.dry_run:
        show(text_of(_without_secrets(merged({}, new, replace=False))))
        return
    kept = write(file, values)
    say(f"{file}: {', '.join(map(str, new))}" + (f" (the previous file is {kept})" if kept else ""))
    say(f"next: blobtide config check --connect --config {file}")


def _with_older(asked: _Asked) -> _Asked:
    """Propose to convert the file of an older system if one is there and nothing else was asked for."""
    if asked.older is not None:
        if asked.names_something:
            raise click.UsageError("--from takes the environments as they are: leave out the options that describe one")
        return asked
    found = next((file for name in _OLDER if (file := Path.home() / name / "config.yaml").exists()), None)
    if found is None or asked.names_something or not _is_terminal():
        return asked
    return replace(asked, older=found) if click.confirm(f"Convert {found}?", default=True, err=True) else asked


def _converted(older: Path) -> Mapping[EnvironmentName, Values]:
    try:
        new = converted(read_yaml(older.expanduser()))
    except ConfigError as error:
        raise error if str(older) in str(error) else ConfigError(f"{older}: {error}") from error
    if others_may_read(older.expanduser()):
        say(f"warning: {older} holds keys and others may read it: chmod 600 it, or delete it", err=True)
    return new


def _described(asked: _Asked) -> Mapping[EnvironmentName, Values]:
    """Return the environment that the options describe; ask for what is missing. Raises click.UsageError."""
    place = EnvironmentName(_given(asked.subscription, "subscription"), _given(asked.environment, "environment"))
    storage = _storage(asked)
    kind = Contents(_given(asked.contents, "contents", tuple(kind.value for kind in Contents)))
    return {place: {"storage": storage, "sources": [source(kind, asked.container, asked.selectors)]}}


def _storage(asked: _Asked) -> Values:
    ways = [*asked.sign_in.items()]
    if len(ways) + asked.identity > 1:
        raise click.UsageError("give only one way to sign in")
    if asked.connection_string_file is not None:
        return dict(ways)
    account = {"account_name": _given(asked.account_name, "account-name")}
    if ways or asked.identity:
        return account | dict(ways)
    if not _is_terminal():
        raise click.UsageError(
            "say how to sign in: --account-key-file, --sas-token-file, --connection-string-file or --identity"
        )
    way = click.prompt("Sign in with", type=click.Choice([*_WAYS, _IDENTITY]), default="key", err=True)
    if way == _IDENTITY:
        return account
    secret = click.prompt(f"The {way.replace('-', ' ')} (not shown)", hide_input=True, err=True)
    return {_WAYS[way]: secret} if way == "connection-string" else account | {_WAYS[way]: secret}


def _given(value: str | None, option: str, choices: tuple[str, ...] = ()) -> str:
    """Return the value of an option; ask for it at a terminal if it is missing."""
    if value is not None:
        return value
    if not _is_terminal():
        raise click.UsageError(f"--{option} is missing")
    kind = click.Choice(choices) if choices else str
    answer: str = click.prompt(option.replace("-", " ").capitalize(), type=kind, err=True)
    return answer


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _without_secrets(values: Values) -> Values:
    """Return new environments with their secrets hidden."""
    shown = deepcopy(values)
    for subscription in shown["subscriptions"].values():
        for environment in subscription["environments"].values():
            storage = environment["storage"]
            storage.update({name: _HIDDEN for name in _WAYS.values() if name in storage})
    return shown
