"""``blobtide sinks``: list the kinds of destinations, or describe one: settings, row types, formats, and an example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from libs.common.errors import ConfigError
from libs.common.settings.description import described
from libs.common.settings.problems import did_you_mean
from services.cli.help_text import examples
from services.cli.pretty import Table, show_table
from services.cli.suggestions import sink_kinds
from services.cli.terminal import say
from services.sinks.frame.kind import Kind, all_kinds, find_kind, kind_names
from services.sinks.frame.settings import SinkSettings

_YES: Final = "yes"


@click.command(
    epilog=examples(
        "blobtide sinks                          # all kinds",
        "blobtide sinks clickhouse               # its settings, and an example",
        "blobtide sinks --example clickhouse >> blobtide.yaml",
    )
)
@click.argument("kind", required=False, shell_complete=sink_kinds)
@click.option("--example", is_flag=True, help="Print only an example of the settings, ready for a settings file.")
def command(kind: str | None, *, example: bool) -> None:
    """List the kinds of destinations, what each promises, and whether its library is installed; or describe one KIND.

    `blobtide run sink NAME` runs a sink; its options are under `sinks.NAME` in the settings.
    """
    if kind is None and example:
        raise click.UsageError("--example requires a KIND.")
    if kind is None:
        rows = [(name, _promise(found), _installed(found), found.description) for name, found in all_kinds().items()]
        show_table(Table(("NAME", "PROMISE", "INSTALLED", "WRITES"), rows, lambda row: "" if row[2] == _YES else "dim"))
        return
    found = _known(kind)
    for line in found.example_lines(kind) if example else _description(kind, found):
        say(line)
    if not example:
        _show_settings(found)


def _known(name: str) -> Kind:
    found = find_kind(name)
    if found is None:
        known = kind_names()
        raise ConfigError(f"unknown kind {name!r}{did_you_mean(name, known)} (known kinds are {', '.join(known)})")
    return found


def _description(name: str, kind: Kind) -> Iterator[str]:
    facts = {"writes": kind.description, "promise": _promise(kind), "installed": _installed(kind), **_of_its_code(kind)}
    width = max(map(len, facts))
    yield f"{name}"
    yield from (f"  {fact.ljust(width)}  {text}" for fact, text in facts.items())
    yield from ("", "Example:", "", *(f"  {line}" for line in kind.example_lines(name)), "")


def _of_its_code(kind: Kind) -> dict[str, str]:
    """Return what only its code knows, which cannot be loaded without its library."""
    if not kind.is_installed:
        return {}
    facts = {"rows": ", ".join(kind.load(kind.sink).row_types)}
    formats = next((setting.values for setting in described(kind.load(kind.settings)) if setting.name == "format"), ())
    return {**facts, "formats": ", ".join(formats)} if formats else facts


def _show_settings(kind: Kind) -> None:
    if not kind.is_installed:
        say("Its settings are shown when its library is installed.")
        return
    of_every_sink = {setting.name for setting in described(SinkSettings)}
    own_first = sorted(described(kind.load(kind.settings)), key=lambda setting: setting.name in of_every_sink)
    rows = [(setting.name, setting.type, setting.default, setting.meaning) for setting in own_first]
    show_table(Table(("SETTING", "TYPE", "DEFAULT", "MEANING"), rows))


def _promise(kind: Kind) -> str:
    return " or ".join(kind.promises)


def _installed(kind: Kind) -> str:
    return _YES if kind.is_installed else f"no: pip install 'blobtide[{kind.extra}]'"
