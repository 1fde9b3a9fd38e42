"""Entry point of `blobtide`: a table of sub-commands, each loaded only when it is called.

A sub-command is a module with a click command or group named `command`. Wrong usage, and errors that blobtide raises on
purpose, become one line on standard error and an exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from libs.common.errors import BlobtideError, ConfigError
from services.cli.help_text import examples
from services.cli.terminal import print_uncaught, say

INTERRUPTED: Final = 130

# name: (module, one-line help). The help stands here so that `blobtide --help` loads nothing.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": (
        "services.cli.up",
        "Run everything on this machine: Kafka, topics, all services; --demo adds Azurite and flow logs.",
    ),
    "run": ("services.cli.run", "Run one service in the foreground."),
    "tail": ("services.cli.tail", "Follow topics of the pipeline as readable lines or JSON."),
    "convert": ("services.cli.convert", "Turn local flow-log files into rows, without any server."),
    "quarantine": ("services.cli.quarantine", "List or release blobs that are left alone so that they stop no others."),
    "topics": ("services.cli.topics", "Compare or apply the declared topics."),
    "acls": ("services.cli.acls", "Show, compare or grant the rights that services need in Kafka."),
    "config": ("services.cli.config", "Check or show the effective settings."),
    "sinks": ("services.cli.sinks", "List the destinations and their delivery promises."),
    "sink-setup": ("services.cli.sink_setup", "Install what a destination needs, such as an index template."),
    "health": ("services.cli.health", "Ask a service on this machine whether it is ready."),
    "demo": ("services.cli.demo", "Generate flow logs as Azure writes them."),
    "help": ("services.cli.help", "Show the help of a command."),
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

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the sub-command; name the closest one if there is none of that name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

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


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples(
        "blobtide up --demo                      # everything on this machine, with flow logs that grow",
        "blobtide convert PT1H.json              # a flow-log blob as rows, without any server",
        "blobtide help topics apply              # what one command does, with its options",
    ),
)
@click.version_option(package_name="blobtide")
def blobtide() -> None:
    """Azure Blob Storage logs through Kafka to the places where people query them.

    Exit codes: 0 done; 1 failed, or something is different, broken or not ready; 2 wrong settings or usage; 3 a server is
    not there; 4 too many dead letters; 130 Ctrl-C.
    """


def main() -> None:
    """Run the command line and exit."""
    sys.excepthook = print_uncaught
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    try:
        code = blobtide.main(arguments, prog_name="blobtide", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "blobtide"
        return _failed(f"{path}: {error.format_message()} See `{path} --help`.", ConfigError.exit_code)
    except click.ClickException as error:
        return _failed(f"blobtide: {error.format_message()}", error.exit_code)
    except click.Abort:
        return _failed("blobtide: interrupted", INTERRUPTED)
    except BlobtideError as error:
        return _failed(f"blobtide: {error}", error.exit_code)
    return code if isinstance(code, int) else 0


def _failed(line: str, exit_code: int) -> int:
    say(line, err=True)
    return exit_code


if __name__ == "__main__":
    main()
