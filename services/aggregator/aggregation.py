"""An aggregation: which flows are summed up, by what, and where the rows go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from libs.common.errors import ConfigError
from libs.common.rows.condition import Condition
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import DIMENSIONS
from libs.common.settings.aggregator import AggregationSettings
from libs.common.settings.kafka import TopicSettings
from libs.common.suggestions import did_you_mean

REMOTE: Final = "remote_ip"
SIDES: Final = ("local_ip", REMOTE)
OF_SIDES: Final = ("src_ip", "dst_ip", "direction")
"""The columns of flows from which the sides follow."""
MEASURED: Final = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
_ALWAYS: Final = ("time", "action", "state", *OF_SIDES, *MEASURED, *FLOWS.position.names)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregation:
    """One aggregation.

    Attributes:
        name: as in the settings.
        window_seconds: length of its windows.
        dimensions: names of columns of rollups.
        condition: which flows are summed up; None for all.
        topic: where its rows go.
        most_rows: how many rows a record may give; None for all.
    """

    name: str
    window_seconds: int
    dimensions: tuple[str, ...]
    condition: Condition | None = None
    topic: str = ""
    most_rows: int | None = None

    @classmethod
    def of(cls, settings: AggregationSettings, topics: TopicSettings) -> Self:
        """Check the settings of one.

        Raises:
            ConfigError: a dimension is unknown, or the condition is invalid.
        """
        where = f"aggregator.aggregations, {settings.name}"
        known = [column.name for column in DIMENSIONS]
        for name in settings.grouped_by:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(f"{where}: unknown dimension {name}{hint}; known dimensions are {', '.join(known)}")
        try:
            condition = None if settings.where is None else Condition.parse(settings.where, FLOWS)
        except ConfigError as error:
            raise ConfigError(f"{where}, where: {error}") from error
        topic = settings.topic_of(topics)
        return cls(settings.name, settings.window.seconds, settings.grouped_by, condition, topic, settings.most_rows)

    @property
    def counts_peers(self) -> bool:
        """Whether its rows count distinct remote addresses: not where each row has one."""
        return REMOTE not in self.dimensions

    @property
    def columns(self) -> set[str]:
        """The columns of flows that it needs."""
        grouped = {name for name in self.dimensions if name not in SIDES}
        return {*_ALWAYS, *grouped, *(self.condition.columns if self.condition else ())}
