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
