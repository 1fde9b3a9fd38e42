"""``blobtide sinks``: list the destinations, what each promises, and whether its library is installed."""

from __future__ import annotations

import click

from services.cli.terminal import say
from services.sinks.frame.registry import KINDS, Kind, installed


@click.command()
def command() -> None:
    """List the destinations, what each promises, and whether its library is installed.

    `blobtide run sink NAME` runs one; its options are under `sinks.NAME` in the settings.
    """
    rows = [("NAME", "PROMISE", "INSTALLED", "WRITES")]
    rows += [(name, kind.promise.value, _installed(kind), kind.description) for name, kind in KINDS.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _installed(kind: Kind) -> str:
    return "yes" if installed(kind) else f"no: pip install 'blobtide[{kind.extra}]'"
