"""The table of sinks. A sink's module is imported when the sink is used, so that one needs only its own libraries.

Adding a sink: one source file with its settings class, one line here, one extra in ``pyproject.toml``, one harness in
``tests/contract``.

Options stand under ``sinks.<name>`` and are checked by the sink's settings class. The name is the kind, unless ``kind`` says
otherwise; so one kind can run twice, as ``sinks: {hot: {kind: redis, ...}, cold: {kind: redis, ...}}``. The name is part of
the consumer group: renaming a sink makes it read everything again.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.settings.problems import describe_problems, did_you_mean
from libs.common.settings.secrets import remember_secrets
from libs.common.settings.sinks import SinkOptions
from services.sinks.frame.contract import Promise, Sink
from services.sinks.frame.settings import SinkSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")  # goes into a consumer group's name and into metric labels


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of destination: where its code is, and what `blobtide sinks` says of it."""

    module: str
    sink: str
    settings: str
    promise: Promise
    description: str
    extra: str | None = None
    library: str | None = None  # what the extra brings, to tell whether it is installed


KINDS: Final[Mapping[str, Kind]] = {
    "file": Kind(
        "services.sinks.kinds.file",
        "FileSink",
        "FileSettings",
        Promise.EFFECTIVELY_ONCE,
        "Parquet, NDJSON or CSV files in a directory",
    ),
    "stdout": Kind(
        "services.sinks.kinds.stdout",
        "StdoutSink",
        "StdoutSettings",
        Promise.AT_LEAST_ONCE,
        "one line a flow on standard output",
    ),
    "summary": Kind(
        "services.sinks.kinds.summary.sink",
        "SummarySink",
        "SummarySettings",
        Promise.EFFECTIVELY_ONCE,
        "traffic per socket and minute: a growing table, and files",
    ),
    "elasticsearch": Kind(
        "services.sinks.kinds.elasticsearch.sink",
        "ElasticsearchSink",
        "ElasticsearchSettings",
        Promise.EFFECTIVELY_ONCE,
        "ECS documents in Elasticsearch or OpenSearch",
        extra="elasticsearch",
        library="urllib3",
    ),
    "redis": Kind(
        "services.sinks.kinds.redis.sink",
        "RedisSink",
        "RedisSettings",
        Promise.EFFECTIVELY_ONCE,
        "entries in Redis streams or keys",
        extra="redis",
        library="redis",
    ),
}


@dataclass(frozen=True, slots=True)
class ConfiguredSink:
    """A sink with its checked settings; nothing has been opened."""

    name: str
    settings: SinkSettings
    sink: Sink


def configured_sink(options: SinkOptions, name: str) -> ConfiguredSink:
    """Build the sink `name` from ``sinks.<name>``; a name without options is a kind with its defaults.

    Raises:
        ConfigError: if the kind is unknown, its library is not installed, or an option is wrong.
    """
    kind, module = _loaded(options, name)
    own = {option: value for option, value in options.get(name, {}).items() if option != "kind"}
    settings = _checked(getattr(module, kind.settings), own, name)
    return ConfiguredSink(name, settings, cast("Sink", getattr(module, kind.sink)(settings)))


def sink_class(options: SinkOptions, name: str) -> Callable[[SinkSettings], Sink]:
    """Return the class of the sink `name`; its options are not looked at.

    Raises:
        ConfigError: if the kind is unknown or its library is not installed.
    """
    kind, module = _loaded(options, name)
    return cast("Callable[[SinkSettings], Sink]", getattr(module, kind.sink))


def _loaded(options: SinkOptions, name: str) -> tuple[Kind, Any]:
    kind = _kind_of(options, name)
    return kind, _load(str(options.get(name, {}).get("kind", name)), kind)


def _kind_of(options: SinkOptions, name: str) -> Kind:
    kind_name = options.get(name, {}).get("kind", name)
    kind = KINDS.get(str(kind_name))
    if kind is None:
        known = ", ".join(KINDS)
        meant = did_you_mean(str(kind_name), [*KINDS, *(other for other in options if other != kind_name)])
        add = "" if name in options else f"; to give one this name, add sinks.{name} with its kind to the settings"
        raise ConfigError(f"sinks.{name}: unknown sink {kind_name!r}{meant} (sinks are {known}){add}")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"sinks.{name}: a sink's name has letters, digits, - and _, at most 63")
    return kind


def installed(kind: Kind) -> bool:
    """Tell whether the library of a kind's extra is there."""
    return kind.library is None or importlib.util.find_spec(kind.library) is not None


def _load(name: str, kind: Kind) -> Any:
    try:
        return importlib.import_module(kind.module)
    except ModuleNotFoundError as error:
        if kind.extra is None or (error.name or "").startswith(("services.", "libs.")):
            raise
        raise ConfigError(f"the {name} sink needs {error.name}: pip install 'blobtide[{kind.extra}]'") from error


def _checked(model: type[SinkSettings], options: Mapping[str, Any], name: str) -> SinkSettings:
    try:
        settings = model.model_validate(options)
    except ValidationError as error:
        raise ConfigError(describe_problems(error, model, f"sinks.{name}.")) from error
    remember_secrets(settings)
    return settings
