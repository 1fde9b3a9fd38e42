"""Make sinks from settings. A sink's module is imported only when used, so that a sink needs only its own libraries.

Options are under ``sinks.<name>`` and are checked by the sink's settings class. The name is the kind unless ``kind`` says
otherwise, so a kind can run twice: ``sinks: {hot: {kind: redis, ...}, cold: {kind: redis, ...}}``. The name is part of the
consumer group: a renamed sink reads everything again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.fields import JsonFields
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selected, Selection
from libs.common.rows.types import row_type
from libs.common.settings import Settings
from libs.common.settings.problems import describe_problems, did_you_mean
from libs.common.settings.secrets import remember_secrets
from libs.common.settings.sinks import SinkOptions
from services.sinks.frame.contract import Sink
from services.sinks.frame.kind import Kind, find_kind, kind_names
from services.sinks.frame.settings import SinkSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")  # becomes part of a consumer group's name and of metric labels


@dataclass(frozen=True, slots=True)
class ConfiguredSink:
    """A sink with its checked settings; nothing has been opened."""

    name: str
    settings: SinkSettings
    row_type: RowType
    selection: Selection
    fields: JsonFields | None
    sink: Sink

    @property
    def steps(self) -> tuple[Callable[[pa.Table], Selected], ...]:
        """What is done with rows before the sink gets them, in order."""
        return (self.selection.select,) if self.fields is None else (self.selection.select, self.fields.select)


def configured_sink(options: SinkOptions, name: str, pipeline: Settings | None = None) -> ConfiguredSink:
    """Build the sink `name` from ``sinks.<name>``; a name without options is a kind with its defaults.

    It joins the `pipeline` if one is given; it must do so before it is opened.

    Raises:
        ConfigError: if the kind is unknown, its library is not installed, or an option is wrong.
    """
    make, settings, kind_of_rows = _settled(options, name)
    try:
        fields = settings.selected_fields(kind_of_rows)
        sink = make(settings, kind_of_rows)
        settings.shape(kind_of_rows)
        selection = settings.selection(kind_of_rows)
        if pipeline is not None:
            sink.join(name, pipeline)
    except ConfigError as error:  # its text begins with the name of the option
        raise ConfigError(f"sinks.{name}.{error}") from error
    return ConfiguredSink(name, settings, kind_of_rows, selection, fields, sink)


def check_memory(options: SinkOptions, name: str) -> None:
    """Refuse the sink `name` if another of its kind has the same memory: each would take the other's rows for its own.

    Nothing is said about others whose own options are wrong. Sinks of other kinds are left out, so that their libraries are not
    loaded; a directory notes which kind it belongs to.

    Raises:
        ConfigError: if they share one; the message names both, in the order of the settings.
    """
    kind = _kind_name(options, name)
    memories = {other: _memory(options, other) for other in options if _kind_name(options, other) == kind}
    own = memories.get(name)
    sharing = [other for other, memory in memories.items() if memory == own]
    if own is not None and len(sharing) > 1:
        raise ConfigError(f"sinks.{sharing[0]} and sinks.{sharing[1]} share {own}: give each its own")


def _memory(options: SinkOptions, name: str) -> str | None:
    try:
        _, settings, kind_of_rows = _settled(options, name)
    except ConfigError:
        return None
    return settings.memory(kind_of_rows)


def _settled(options: SinkOptions, name: str) -> tuple[Callable[[SinkSettings, RowType], Sink], SinkSettings, RowType]:
    """Return the class of a sink, its checked settings and the type of its rows. Raises `ConfigError`."""
    kind_name, kind = _kind_of(options, name)
    make, model = (_loaded(kind_name, kind, place) for place in (kind.sink, kind.settings))
    own = {option: value for option, value in options.get(name, {}).items() if option != "kind"}
    settings = _checked(model, own, name)
    try:
        return make, settings, _rows_for(make, settings, kind_name)
    except ConfigError as error:
        raise ConfigError(f"sinks.{name}.{error}") from error


def _rows_for(sink: type[Sink], settings: SinkSettings, kind_name: str) -> RowType:
    try:
        found = row_type(settings.rows)
    except ConfigError as error:
        raise ConfigError(f"rows: {error}") from error
    if found.name not in sink.row_types:
        raise ConfigError(f"rows: the {kind_name} sink supports {' and '.join(sink.row_types)}, not {found.name}")
    return found


def sink_class(options: SinkOptions, name: str) -> type[Sink]:
    """Return the class of the sink `name`, without checking its options.

    Raises:
        ConfigError: if the kind is unknown or its library is not installed.
    """
    kind_name, kind = _kind_of(options, name)
    return cast("type[Sink]", _loaded(kind_name, kind, kind.sink))


def _kind_name(options: SinkOptions, name: str) -> str:
    return str(options.get(name, {}).get("kind", name))


def _kind_of(options: SinkOptions, name: str) -> tuple[str, Kind]:
    given = options.get(name, {}).get("kind", name)
    kind_name = _kind_name(options, name)
    kind = find_kind(kind_name)
    if kind is None:
        known = kind_names()
        meant = did_you_mean(kind_name, [*known, *(other for other in options if other != kind_name)])
        add = _how_to_name(options, name)
        raise ConfigError(f"sinks.{name}: unknown sink {given!r}{meant} (known sinks are {', '.join(known)}){add}")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"sinks.{name}: a sink's name consists of at most 63 letters, digits, - and _")
    return kind_name, kind


def _how_to_name(options: SinkOptions, name: str) -> str:
    if name not in options:
        return f"; to use this name, add sinks.{name} with its kind to the settings"
    return "" if "kind" in options[name] else f"; to use this name, set sinks.{name}.kind to one of them"


def _loaded(name: str, kind: Kind, place: str) -> Any:
    try:
        return kind.load(place)
    except ConfigError as error:
        raise ConfigError(f"the {name} sink {error}") from error.__cause__


def _checked(model: type[SinkSettings], options: Mapping[str, Any], name: str) -> SinkSettings:
    try:
        settings = model.model_validate(options)
    except ValidationError as error:
        raise ConfigError(describe_problems(error, model, f"sinks.{name}.")) from error
    remember_secrets(settings)
    return settings
