"""`blobtide acls`: show the minimum rights each service needs in Kafka, compare them with the broker, or grant them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.kafka.topics.acls import Right
    from libs.common.settings import Settings

DIFFERENT = 1

F = TypeVar("F", bound=Callable[..., object])

_names_argument = click.argument("names", metavar="[SERVICE]...", nargs=-1)
_principal_option = click.option(
    "--principal",
    "principals",
    metavar="SERVICE=PRINCIPAL",
    multiple=True,
    help="Kafka principal of a service, for example parser=User:CN=parser.  [default: User:SERVICE]",
)


def _about_rights(function: F) -> F:
    return _names_argument(config_option(_principal_option(function)))


@click.group(
    epilog=examples(
        "blobtide acls print parser",
        "blobtide acls diff",
        "blobtide acls apply --principal sink-file=User:archive blob-monitor ingest parser sink-file",
    )
)
def command() -> None:
    """Show, compare or grant the minimum rights that services need.

    SERVICE is blob-monitor, ingest, parser, sink-NAME, or a command that people run: tail, quarantine, topics (topics apply).
    Default: all of these, with every configured sink. Topic and group names come from the settings.
    """


@command.command("print", short_help="Show the rights as kafka-acls commands.")
@_about_rights
def print_rights(names: tuple[str, ...], config: Path | None, principals: tuple[str, ...]) -> None:
    """Show each right as the command of Kafka's own tools that grants it. Nothing is queried or changed."""
    settings = load_logged(config, "acls")
    before = ""
    for right in _wanted(settings, names, principals):
        if right.principal != before:
            say(f"# {right.principal}")
            before = right.principal
        say(right.command(settings.kafka.bootstrap_servers))


@command.command(short_help="Show differences; exit code 1 if there are any.")
@_about_rights
@click.pass_context
def diff(context: click.Context, names: tuple[str, ...], config: Path | None, principals: tuple[str, ...]) -> None:
    """Show which rights are missing and which ones these users have in excess; exit code 1 if there are any."""
    from libs.common.kafka.topics.acls import compare_rights

    settings = load_logged(config, "acls")
    difference = compare_rights(settings.kafka, _wanted(settings, names, principals))
    _show(difference.missing, difference.beyond)
    if difference.missing or difference.beyond:
        context.exit(DIFFERENT)


@command.command(short_help="Grant missing rights.")
@_about_rights
def apply(names: tuple[str, ...], config: Path | None, principals: tuple[str, ...]) -> None:
    """Grant the missing rights. Nothing is revoked: excess rights are shown and left for you to decide.

    Requires Alter on the cluster, or a super user.
    """
    from libs.common.kafka.topics.acls import compare_rights, grant_rights

    settings = load_logged(config, "acls")
    difference = compare_rights(settings.kafka, _wanted(settings, names, principals))
    grant_rights(settings.kafka, difference.missing)
    _show(difference.missing, difference.beyond)
    say(f"{len(difference.missing)} rights granted; {len(difference.beyond)} excess rights left for you to decide")


def _wanted(settings: Settings, names: tuple[str, ...], principals: tuple[str, ...]) -> list[Right]:
    from services.cli.broker.rights import known, rights_of

    chosen = names or known(settings)
    return rights_of(settings, chosen, _principals(chosen, principals))


def _principals(names: tuple[str, ...], given: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for one in given:
        name, _, principal = one.partition("=")
        if name not in names or not principal.startswith("User:"):
            raise click.BadParameter(
                f"{one} is not SERVICE=User:NAME, where SERVICE is one of {', '.join(names)}", param_hint="--principal"
            )
        found[name] = principal
    return found


def _show(missing: Any, beyond: Any) -> None:
    for right in missing:
        say(f"+ {right}")
    for line in beyond:
        say(f"! {line}: not needed")
    if not missing and not beyond:
        say("all rights are as required")
