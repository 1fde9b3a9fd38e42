"""``blobtide help``: the same text as ``--help``, as a command."""

from __future__ import annotations

import click

from services.cli.help_text import examples


@click.command(epilog=examples("blobtide help", "blobtide help topics apply"))
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a COMMAND, or of blobtide."""
    asked = context.parent or context
    for word in words:
        group = asked.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"No subcommand '{word}': this command has none.", asked)
        name, found, _ = group.resolve_command(asked, [word])
        if found is not None:
            asked = click.Context(found, info_name=name, parent=asked)
    click.echo(asked.get_help())
