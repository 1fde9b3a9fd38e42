"""``blobtide help``: the same text as ``--help``, as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from services.cli.help_text import examples

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _commands(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the subcommands of the words before that begin so."""
    del parameter
    try:
        asked = _asked(context, context.params.get("words") or ())
    except click.UsageError:
        return []
    return asked.command.shell_complete(asked, begun) if isinstance(asked.command, click.Group) else []


def _asked(context: click.Context, words: tuple[str, ...]) -> click.Context:
    asked = context.find_root()
    for word in words:
        group = asked.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"No subcommand '{word}': this command has none.", asked)
        name, found, _ = group.resolve_command(asked, [word])
        if found is None:
            raise click.UsageError(f"No such command '{word}'.", asked)
        asked = click.Context(found, info_name=name, parent=asked)
    return asked


@click.command(epilog=examples("blobtide help", "blobtide help topics apply"))
@click.argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=_commands)
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a COMMAND, or of blobtide."""
    click.echo(_asked(context, words).get_help())
