"""Settings of the aggregator."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.settings.aggregator import PRESETS, AggregatorSettings, Preset
from libs.common.settings.kafka import TopicSettings
from services.aggregator.aggregation import Aggregation

TOPICS = TopicSettings()


def settings(*aggregations: dict[str, Any]) -> AggregatorSettings:
    """Return settings with these aggregations."""
    return AggregatorSettings.model_validate({"aggregations": aggregations})


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_is_a_name_and_dimensions(preset: Preset) -> None:
    """Nothing else has to be said, and its dimensions are columns of rollups."""
    (only,) = settings({"preset": preset.value}).aggregations
    assert (only.name, only.grouped_by) == (preset.value, PRESETS[preset])
    assert Aggregation.of(only, TOPICS).dimensions == PRESETS[preset]


def test_aggregations_with_the_same_window_share_its_topic() -> None:
    """An aggregation may also have a topic of its own; each topic is there once."""
    several = settings(
        {"preset": "network"},
        {"preset": "policy", "window": "1h"},
        {"name": "rules", "dimensions": "rule, action"},
        {"name": "fast", "preset": "talkers", "window": "1s"},
        {"name": "own", "preset": "talkers", "topic": "Metrics.Own"},
    )
    assert several.topics_of(TOPICS) == (TOPICS.rollups, TOPICS.rollups_1h, TOPICS.rollups_1s, "Metrics.Own")
    assert several.aggregations[2].grouped_by == ("rule", "action")


@pytest.mark.parametrize(
    ("aggregations", "problem"),
    [
        ([{"name": "x"}], "set either preset or dimensions"),
        ([{"name": "x", "preset": "policy", "dimensions": ["rule"]}], "set either preset or dimensions"),
        ([{"name": "x", "dimensions": ["rule", "rule"]}], "a dimension is named twice"),
        ([{"dimensions": ["rule"]}], "name"),
        ([{"name": "a/b", "preset": "policy"}], "name"),
        ([{"name": "x", "preset": "policy", "topic": "no spaces"}], "topic"),
        ([{"name": "x", "preset": "policy", "window": "5m"}], "window"),
        ([{"preset": "policy"}, {"preset": "policy", "window": "1h"}], "two aggregations are named policy"),
    ],
)
def test_an_aggregation_that_says_too_little_or_too_much_is_refused(aggregations: list[Any], problem: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(ValidationError, match=problem):
        settings(*aggregations)
