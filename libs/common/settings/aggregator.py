"""Settings of the aggregator."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from libs.common.settings.base import Group, listed
from libs.common.settings.kafka import TopicSettings


class Preset(StrEnum):
    """Dimensions that are often wanted together."""

    NETWORK = "network"
    NETWORK_MAP = "network_map"
    POLICY = "policy"
    TALKERS = "talkers"


class WindowLength(StrEnum):
    """The length of windows."""

    SECOND = "1s"
    MINUTE = "1m"
    HOUR = "1h"

    @property
    def seconds(self) -> int:
        """The length in seconds."""
        return {"1s": 1, "1m": 60, "1h": 3_600}[self.value]


PRESETS: Final[Mapping[Preset, tuple[str, ...]]] = {
    Preset.NETWORK: ("target_id", "local_ip", "direction", "protocol", "dst_port", "action"),
    Preset.NETWORK_MAP: ("target_id", "src_ip", "dst_ip", "direction", "protocol", "dst_port", "action"),
    Preset.POLICY: ("target_id", "acl_id", "rule", "direction", "action"),
    Preset.TALKERS: ("target_id", "src_ip", "dst_ip", "direction"),
}


class AggregationSettings(Group):
    """One way to sum up flows."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="Name: part of the identity of its rows. Change it whenever you change anything else. Default: the preset.",
    )
    preset: Preset | None = Field(default=None, description="Dimensions that are often wanted together.")
    dimensions: tuple[str, ...] = Field(
        default=(), description="Columns to group by, in place of a preset: a list, or comma-separated."
    )
    where: str | None = Field(default=None, description="SQL condition over the columns of flows. Only these are summed up.")
    window: WindowLength = Field(default=WindowLength.MINUTE, description="Length of the windows.")
    most_rows: int | None = Field(
        default=None,
        ge=1,
        description="Rows that one record may give at most, chosen by a hash of their position; each then has a weight. "
        "Default: all.",
    )
    topic: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Topic for its rows. Default: that of the window, which aggregations share.",
    )

    _comma_separated = field_validator("dimensions", mode="before")(listed)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_preset(cls, values: object) -> object:
        if isinstance(values, dict) and "name" not in values and isinstance(values.get("preset"), str):
            return {"name": str(values["preset"]), **values}
        return values

    @model_validator(mode="after")
    def _says_what_to_group_by(self) -> Self:
        if bool(self.dimensions) == (self.preset is not None):
            raise ValueError("set either preset or dimensions")
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("a dimension is named twice")
        return self

    @property
    def grouped_by(self) -> tuple[str, ...]:
        """The dimensions."""
        return self.dimensions if self.preset is None else PRESETS[self.preset]

    def topic_of(self, topics: TopicSettings) -> str:
        """Return the topic for its rows."""
        by_window = {
            WindowLength.SECOND: topics.rollups_1s,
            WindowLength.MINUTE: topics.rollups,
            WindowLength.HOUR: topics.rollups_1h,
        }
        return self.topic or by_window[self.window]


class AggregatorSettings(Group):
    """The aggregator, which sums up flows."""

    aggregations: tuple[AggregationSettings, ...] = Field(default=(), description="What to sum up.")
    poll_seconds: float = Field(default=1.0, gt=0, le=5, description="Seconds for which one poll collects messages.")
    poll_messages: int = Field(default=1_000, ge=1, description="Messages after which a poll ends early.")
    poll_bytes: int = Field(default=16_777_216, ge=1_000_000, description="Bytes after which a poll ends early.")
    batch_bytes: int = Field(
        default=4_000_000, ge=100_000, le=8_000_000, description="Maximum size of a batch of rows, uncompressed."
    )
    dead_letter_limit: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of messages that may be dead-lettered before the aggregator stops; 1 never stops it.",
    )

    @field_validator("aggregations")
    @classmethod
    def _have_names(cls, aggregations: tuple[AggregationSettings, ...]) -> tuple[AggregationSettings, ...]:
        names = [one.name for one in aggregations]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two aggregations are named {twice[0]}; the name is part of the identity of rows")
        return aggregations

    def topics_of(self, topics: TopicSettings) -> tuple[str, ...]:
        """Return the topics of all aggregations, each once."""
        return tuple(dict.fromkeys(one.topic_of(topics) for one in self.aggregations))
