"""What shells suggest for arguments whose values click does not know. No error ever shows while somebody is typing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from libs.common.errors import ConfigError
from libs.common.settings.kafka import TopicSettings
from libs.common.settings.loader import read_groups, settings_file

Suggest = Callable[[click.Context, click.Parameter, str], list[str]]


def configured_sinks(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the names of the sinks in the settings file; if there are none, the kinds, each of which is a name too."""
    del parameter
    try:
        file = settings_file(context.params.get("config"))
        sinks = read_groups(file).get("sinks") if file else None
    except ConfigError:
        return []
    return _beginning(begun, map(str, sinks) if isinstance(sinks, dict) else _kinds())


def sink_kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the names of all kinds of sinks."""
    del context, parameter
    return _beginning(begun, _kinds())


def topic_names(prefix: str = "") -> Suggest:
    """Suggest the short names of topics that have a prefix."""
    names = [name for name in TopicSettings.model_fields if name.startswith(prefix)]
    return lambda _context, _parameter, begun: _beginning(begun, names)


def _kinds() -> Iterable[str]:
    from services.sinks.frame.kind import kind_names

    return kind_names()


def _beginning(begun: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(begun)]
