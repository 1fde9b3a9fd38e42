"""``blobtide run``: run one service in the foreground. This is what containers run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click

from libs.common.process.memory import hide_pandas, return_freed_memory
from libs.common.process.service import Service, run_service
from libs.common.settings import Settings
from services.cli.help_text import examples
from services.cli.options import config_option, load
from services.cli.suggestions import configured_sinks

# name: module with `build`.
SERVICES: Final[dict[str, str]] = {
    "blob-monitor": "services.blob_monitor.main",
    "ingest": "services.ingest.main",
    "parser": "services.parser.main",
    "aggregator": "services.aggregator.main",
    "collector": "services.collector.main",
    "recorder": "services.recorder.main",
}

# Groups of settings that only some services read. Of sinks, each reads its own.
_READERS: Final = {
    "subscriptions": ("blob-monitor", "ingest"),
    "collector": ("collector",),
    "recorder": ("recorder",),
    "sinks": (),
}

_HELP: Final[dict[str, str]] = {
    "blob-monitor": "Find blobs, announce what changed, close and reopen them.",
    "ingest": "Read announced blobs block by block and write segments.",
    "parser": "Parse segments into flow batches.",
    "aggregator": "Sum up flows by window and dimensions.",
    "collector": "Answer requests for Azure configuration.",
    "recorder": "Poll HTTP sources and record their answers.",
}


def needs(service: str, path: str) -> bool:
    """Return whether a service, or a sink as ``sinks.NAME``, reads the setting at `path`: whose secrets it needs."""
    return f"{path}.".startswith(f"{service}.") or service in _READERS.get(path.partition(".")[0], (service,))


@click.group(epilog=examples("blobtide run parser --config blobtide.yaml", "blobtide run sink file"))
def command() -> None:
    """Run one service in the foreground until SIGTERM or Ctrl-C. It logs to standard error."""
    return_freed_memory()
    hide_pandas()


def _add(name: str, module: str) -> None:
    @command.command(name, help=_HELP[name])
    @config_option
    def run_one(config: Path | None) -> None:
        settings = load(config, partial(needs, name))
        sys.exit(run_service(name, settings, _build_of(module)))


for _name, _module in SERVICES.items():
    _add(_name, _module)


@command.command(
    "sink",
    help="Write rows to the destination NAME: either a kind listed by `blobtide sinks`, with its options under sinks.NAME in "
    "the settings, or any other name whose sinks.NAME sets `kind`.",
    short_help="Write rows to a destination.",
    epilog=examples("blobtide run sink file", "BLOBTIDE_SINKS__FILE__DIRECTORY=/data blobtide run sink file"),
)
@click.argument("name", shell_complete=configured_sinks)
@config_option
def run_sink(name: str, config: Path | None) -> None:
    """Run one sink."""
    from services.sinks.main import build

    settings = load(config, partial(needs, f"sinks.{name}"))
    sys.exit(run_service(f"sink-{name}", settings, lambda loaded: build(loaded, name)))


def _build_of(module: str) -> Callable[[Settings], Service]:
    build: Callable[[Settings], Service] = importlib.import_module(module).build
    return build
