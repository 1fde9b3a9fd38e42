"""``blobtide sinks``: list the destinations, what each promises, and whether its library is installed."""

from __future__ import annotations

import click

from services.cli.terminal import say
from services.sinks.frame.kind import Kind, all_kinds


@click.command()
def command() -> None:
    """List the destinations, what each promises, and whether its library is installed.

    `blobtide run sink NAME` runs one; its options are under `sinks.NAME` in the settings.
    """
    rows = [("NAME", "PROMISE", "INSTALLED", "WRITES")]
    rows += [(name, _promise(kind), _installed(kind), kind.description) for name, kind in all_kinds().items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _promise(kind: Kind) -> str:
    return " or ".join(kind.promises)


def _installed(kind: Kind) -> str:
    return "yes" if kind.is_installed else f"no: pip install 'blobtide[{kind.extra}]'"
