"""Everything that blobtide stores in one cluster: what ``blobtide opensearch setup`` compares and installs.

The rows of each sink go where the sink's settings say, so what there should be for them follows from these. Rows of other
types have a data stream of their own, which a sink may be told to write to at any time. Templates and policies are those of
`services.sinks.kinds.elasticsearch.setup`, which a single sink has as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import ConfigError
from libs.common.rows.types import row_type
from libs.common.settings import Settings
from libs.common.settings.sinks import SinkOptions
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.elasticsearch.differences import Difference, difference
from services.sinks.kinds.elasticsearch.index import DataStream
from services.sinks.kinds.elasticsearch.setup import Absent, Ask, Installation, Resource, ResourceKind, put, resources
from services.sinks.kinds.elasticsearch.sink import KIND, ElasticsearchSettings, ElasticsearchSink

INDEXED: Final = ("flows", "rollups", "application", "http", "proxy", "spans")
"""The row types that a cluster is prepared for, whether there is a sink for them or not."""


@dataclass(frozen=True, slots=True)
class ClusterSetup:
    """A cluster, and what should be in it.

    Attributes:
        settings: how to connect.
        installations: in order.
    """

    settings: ElasticsearchSettings
    installations: tuple[Installation, ...]

    def differences(self, ask: Ask) -> Iterator[Difference | Absent]:
        """Yield what is missing or different, in the order in which it is installed. Raises as `install`."""
        for installation in self.installations:
            for one in (*resources(ask, installation), *_data_streams(installation)):
                found = one if isinstance(one, Absent) else difference(ask, one)
                if found is not None:
                    yield found

    def apply(self, ask: Ask) -> Iterator[Difference | Absent]:
        """Install what is missing or different, and yield it when that is done. Raises as `install`."""
        for found in self.differences(ask):
            if isinstance(found, Difference):
                put(ask, found.resource)
            yield found


def cluster_setup(settings: Settings, name: str | None = None) -> ClusterSetup:
    """Return the set-up of the cluster that the sink `name` writes to; by default the only one there is.

    Raises:
        ConfigError: if there is no such sink, there are several clusters and no name, or two sinks contradict each other.
    """
    found = {sink: _settings_of(settings, sink) for sink in sinks_of_kind(settings.sinks)}
    if name is None:
        if len({_cluster(one) for one in found.values()}) > 1:
            raise ConfigError(f"the sinks {', '.join(found)} write to different clusters: name one of them")
        chosen = next(iter(found.values()), ElasticsearchSettings())
    elif name in found:
        chosen = found[name]
    else:
        known = f"there are {', '.join(found)}" if found else "there is none in the settings"
        raise ConfigError(f"no sink {name} of kind {KIND}: {known}")
    own = [one for one in found.values() if _cluster(one) == _cluster(chosen)]
    with_sinks = {one.rows for one in own}
    others = [_without_sink(rows) for rows in INDEXED if rows not in with_sinks]
    return ClusterSetup(chosen, _distinct([_installation(one) for one in (*own, *others)]))


def default_installations() -> dict[str, Installation]:
    """Return what is installed for each type of rows without a sink."""
    return {rows: _installation(_without_sink(rows)) for rows in INDEXED}


def sinks_of_kind(options: SinkOptions) -> list[str]:
    """Return the names of the sinks of this kind."""
    return [name for name, own in options.items() if own.get("kind", name) == KIND]


def _distinct(installations: Sequence[Installation]) -> tuple[Installation, ...]:
    """Return each installation once; several sinks may share one. Raises `ConfigError` if they want it to be different."""
    by_name: dict[str, Installation] = {}
    for one in installations:
        if by_name.setdefault(one.name, one) != one:
            raise ConfigError(
                f"sinks write to {one.name} whose settings differ: give each an index_prefix or data_stream of its own"
            )
    return tuple(by_name.values())


def _settings_of(settings: Settings, name: str) -> ElasticsearchSettings:
    found = configured_sink(settings.sinks, name, settings).settings
    if not isinstance(found, ElasticsearchSettings):
        raise TypeError(f"{name} is no sink of kind {KIND}")
    return found


def _cluster(settings: ElasticsearchSettings) -> tuple[str, ...]:
    return tuple(sorted(settings.hosts))


def _without_sink(rows: str) -> ElasticsearchSettings:
    return ElasticsearchSettings.model_validate({"rows": rows, "data_stream": f"blobtide-{rows}"})


def _installation(settings: ElasticsearchSettings) -> Installation:
    return ElasticsearchSink(settings, row_type(settings.rows)).installation()


def _data_streams(installation: Installation) -> Iterator[Resource]:
    if isinstance(installation.target, DataStream):
        name = installation.target.name
        yield Resource(ResourceKind.DATA_STREAM, name, f"/_data_stream/{name}")
