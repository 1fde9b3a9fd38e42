"""``blobtide sinks``: list the destinations, what each promises, and whether its library is installed."""

from __future__ import annotations

from typing import Final

import click

from services.cli.pretty import Table, show_table
from services.sinks.frame.kind import Kind, all_kinds

_YES: Final = "yes"


@click.command()
def command() -> None:
    """List the destinations, what each promises, and whether its library is installed.

    `blobtide run sink NAME` runs one; its options are under `sinks.NAME` in the settings.
    """
    rows = [(name, _promise(kind), _installed(kind), kind.description) for name, kind in all_kinds().items()]
    show_table(Table(("NAME", "PROMISE", "INSTALLED", "WRITES"), rows, lambda row: "" if row[2] == _YES else "dim"))


def _promise(kind: Kind) -> str:
    return " or ".join(kind.promises)


def _installed(kind: Kind) -> str:
    return _YES if kind.is_installed else f"no: pip install 'blobtide[{kind.extra}]'"
