"""Entry point of `blobtide`: a table of subcommands, each loaded only when called.

A subcommand is a module with a click command or group named `command`. Usage errors, and errors that blobtide raises on
purpose, are reported as one line on standard error and an exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from libs.common.errors import BlobtideError, ConfigError
from services.cli.help_text import examples
from services.cli.terminal import print_uncaught, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED: Final = 130

# name: (module, one-line help). The help is kept here so that `blobtide --help` loads no subcommand.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": (
        "services.cli.up.command",
        "Run everything on this machine: Kafka, topics and all services; --demo adds Azurite and flow logs.",
    ),
    "run": ("services.cli.run", "Run one service in the foreground."),
    "tail": ("services.cli.tail.command", "Follow the pipeline's topics as readable lines or JSON."),
    "explore": ("services.cli.explore.command", "Look into the raw topics line by line, through filters."),
    "analyze-logs": ("services.cli.analyze.command", "Sum up log rows: volume, levels, errors, status codes, latencies."),
    "convert": ("services.cli.convert.command", "Convert local flow-log files to rows, without a server."),
    "record": ("services.cli.record.command", "Record what an HTTP source answers into zip files, without Kafka."),
    "list-blobs": ("services.cli.blobs.list_blobs", "List the blobs that the settings cover, and how far they have been read."),
    "list-services": ("services.cli.blobs.list_services", "Count what each selector finds in storage."),
    "inspect": ("services.cli.blobs.inspect", "Show everything about one blob: properties, blocks, checkpoint, completions."),
    "ingest-blob": (
        "services.cli.blobs.ingest_blob",
        "Read one blob once, from an offset, into its raw topic.",
    ),
    "quarantine": ("services.cli.quarantine", "List or release blobs set aside so that they do not block others."),
    "topics": ("services.cli.broker.topics", "Compare the declared topics with Kafka, or apply them."),
    "acls": ("services.cli.broker.acls", "Show, compare or grant the ACLs that services need in Kafka."),
    "collect": ("services.cli.collector.collect", "Send requests for Azure configuration to the collector."),
    "collector": (
        "services.cli.collector.command",
        "Show templates and examples of requests for Azure configuration, or check requests.",
    ),
    "setup-config": ("services.cli.config.setup", "Write the settings file with the storage accounts to read."),
    "config": ("services.cli.config.command", "Check or show the effective settings."),
    "sinks": ("services.cli.sinks.listing", "List the kinds of destinations, or describe one, with an example."),
    "sink-setup": ("services.cli.sinks.setup", "Prepare a destination, for example by installing an index template."),
    "opensearch": (
        "services.cli.sinks.opensearch",
        "Prepare OpenSearch or Elasticsearch for all types of rows.",
    ),
    "sink-dashboard": ("services.cli.sinks.dashboard", "Install a dashboard in Kibana or OpenSearch Dashboards."),
    "test-connection": ("services.cli.sinks.connection", "Connect to the destinations of sinks, without writing."),
    "sink-maintain": ("services.cli.sinks.maintain", "Tidy up a destination, for example by joining small files."),
    "health": ("services.cli.health", "Check whether a service on this machine is ready."),
    "demo": ("services.cli.demo.command", "Generate logs the way Azure and Kubernetes write them."),
    "completion": ("services.cli.completion", "Print the script with which bash, zsh or fish completes what you type."),
    "help": ("services.cli.help", "Show the help of a command."),
}


class LazyGroup(click.Group):
    """A command group that imports a subcommand's module on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands, in the table's order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; suggest the closest name if there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Suggest subcommands, without loading them, and options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> object:
        """Run a subcommand; exit quietly when the reader of our output closes the pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # caught here because click would turn it into exit code 1 before `main` saw it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of subcommands without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples(
        "blobtide up --demo                      # everything on this machine, with growing flow logs",
        "blobtide convert PT1H.json              # a flow-log blob as rows, without a server",
        "blobtide help topics apply              # help and options of one command",
    ),
)
@click.version_option(package_name="blobtide")
def blobtide() -> None:
    """Move Azure Blob Storage logs through Kafka to the places where people query them.

    Exit codes: 0 success; 1 failure, or something differs, is broken or is not ready; 2 invalid settings or usage; 3 a server
    is unreachable; 4 too many dead letters; 130 Ctrl-C.
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
