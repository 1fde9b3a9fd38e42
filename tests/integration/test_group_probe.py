"""The probe of consumer groups against a broker that serves them, does not, hangs, and is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from libs.common.kafka.group.group_probe import GroupProbe
from libs.common.kafka.topics.admin import apply_topics, load_topic_specs
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.kafka import LocalKafka
from tests.fixtures.servers import serving
from tests.freezing import frozen

pytestmark = [pytest.mark.kafka]

SECONDS = 30.0
SHORT_SECONDS = 2.0


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker of its own: what is done to its groups would be done to those of other tests."""
    server = LocalKafka(tmp_path_factory.mktemp("kafka"))
    with serving(server):
        apply_topics(settings_of(server), TopicSettings(), load_topic_specs())
        yield server


def settings_of(broker: LocalKafka) -> KafkaSettings:
    """Return how to reach it."""
    return KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


def limit_groups(broker: LocalKafka, largest_bytes: int) -> None:
    """Let the log of groups take no larger messages: what the coordinator writes is refused or not."""
    entry = ConfigEntry("max.message.bytes", str(largest_bytes), incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, "__consumer_offsets", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for future in admin.incremental_alter_configs([change]).values():
        future.result(SECONDS)


def test_a_probe_tells_groups_that_work_from_those_that_do_not(broker: LocalKafka) -> None:
    """Groups that cannot write, a broker that hangs and a dead one are told from groups that work, until each is back."""
    probe = GroupProbe(settings_of(broker), TopicSettings().flows)
    try:
        assert probe.ask(SECONDS) is None
        limit_groups(broker, 10)
        assert AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=SECONDS).topics
        assert probe.ask(SECONDS) is not None
        limit_groups(broker, 1_000_000)
        assert recovers(probe)
        with frozen(broker):
            assert probe.ask(SHORT_SECONDS) is not None
        assert recovers(probe)
        broker.kill()
        assert probe.ask(SHORT_SECONDS) is not None
        broker.start()
        assert recovers(probe)
    finally:
        probe.close()


def recovers(probe: GroupProbe) -> bool:
    """Tell whether one of the next answers is that groups work."""
    return any(probe.ask(SECONDS) is None for _ in range(10))
