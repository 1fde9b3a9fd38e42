"""Rights in Kafka that depend on the settings."""

from __future__ import annotations

from typing import Any

import pytest

from libs.common.kafka.topics.acls import On, Operation, Right
from libs.common.settings import Settings
from services.cli.broker.rights import rights_of


@pytest.mark.parametrize(("events", "writes"), [({}, False), ({"events": {"queue": "blob-events"}}, True)])
def test_a_monitor_writes_to_errors_only_where_a_queue_of_events_is_read(events: dict[str, Any], writes: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """What a queue holds may be no event, which goes to Errors; without a queue nothing does."""
    environment = {"storage": {"account_name": "account"}, "sources": [{"container": "logs"}], **events}
    settings = Settings.model_validate({"subscriptions": {"sub": {"environments": {"dev": environment}}}})
    right = Right("User:blob-monitor", Operation.WRITE, On.TOPIC, settings.topics.errors)
    assert (right in rights_of(settings, ["blob-monitor"], {})) is writes


@pytest.mark.parametrize(("options", "topic"), [({}, "Extracted.Flows"), ({"rows": "dead_letters"}, "Errors")])
def test_a_sink_reads_the_topic_of_its_rows(options: dict[str, Any], topic: str) -> None:
    """A sink may read what it writes down, and nothing else."""
    settings = Settings.model_validate({"sinks": {"one": {"kind": "stdout", **options}}})
    rights = [
        right for right in rights_of(settings, ["sink-one"], {}) if (right.operation, right.on) == (Operation.READ, On.TOPIC)
    ]
    assert rights == [Right("User:sink-one", Operation.READ, On.TOPIC, topic)]
