"""Entry point of `blobtide`: a table of sub-commands, each loaded only when it is called.

A sub-command is a module with a click command or group named `command`. Errors that blobtide raises on purpose become one line
and an exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from libs.common.errors import BlobtideError

# name: (module, one-line help). The help stands here so that `blobtide --help` loads nothing.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": (
        "services.cli.up",
        "Run everything on this machine: Kafka, topics, all services; --demo adds Azurite and flow logs.",
    ),
    "run": ("services.cli.run", "Run one service in the foreground."),
    "tail": ("services.cli.tail", "Follow topics of the pipeline as readable lines or JSON."),
    "convert": ("services.cli.convert", "Turn local flow-log files into rows, without any server."),
    "topics": ("services.cli.topics", "Compare or apply the declared topics."),
    "config": ("services.cli.config", "Check or show the effective settings."),
    "sinks": ("services.cli.sinks", "List the destinations and their delivery promises."),
    "sink-setup": ("services.cli.sink_setup", "Install what a destination needs, such as an index template."),
    "health": ("services.cli.health", "Ask a service on this machine whether it is ready."),
    "demo": ("services.cli.demo", "Generate flow logs as Azure writes them."),
}


class LazyGroup(click.Group):
    """A command group that imports a sub-command's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all sub-commands in the table's order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one sub-command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a sub-command; end quietly when the reader of our output goes away, which is its right."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # here and not in `main`, because click would make exit code 1 of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without loading anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="blobtide")
def blobtide() -> None:
    """Azure Blob Storage logs through Kafka to the places where people query them."""


def main() -> None:
    """Run the command line and exit."""
    try:
        blobtide(prog_name="blobtide")
    except BlobtideError as error:
        print(f"blobtide: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
