"""Rights in Kafka that depend on the settings."""

from __future__ import annotations

from typing import Any

import pytest

from libs.common.errors import ConfigError
from libs.common.kafka.topics.acls import On, Operation, Right
from libs.common.settings import Settings
from services.cli.broker.rights import known, rights_of


@pytest.mark.parametrize(("events", "writes"), [({}, False), ({"events": {"queue": "blob-events"}}, True)])
def test_a_monitor_writes_to_errors_only_where_a_queue_of_events_is_read(events: dict[str, Any], writes: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """What a queue holds may be no event, which goes to Errors; without a queue nothing does."""
    environment = {"storage": {"account_name": "account"}, "sources": [{"container": "logs"}], **events}
    settings = Settings.model_validate({"subscriptions": {"sub": {"environments": {"dev": environment}}}})
    right = Right("User:blob-monitor", Operation.WRITE, On.TOPIC, settings.topics.errors)
    assert (right in rights_of(settings, ["blob-monitor"], {})) is writes


def test_a_parser_may_use_the_topics_of_its_streams_only() -> None:
    """The segments and rows of streams that it does not read are none of its business, nor are spans if it makes none."""
    for spans in (True, False):
        settings = Settings.model_validate({"parser": {"streams": ["proxy_logs"], "logs": {"spans": spans}}})
        found = {(right.operation, right.name) for right in rights_of(settings, ["parser"], {}) if right.on is On.TOPIC}
        topics = settings.topics
        written = {topics.application, topics.http, topics.proxy, topics.quarantine, topics.errors}
        written |= {topics.spans} if spans else set()
        assert {name for operation, name in found if operation is Operation.READ} == {topics.raw_proxy_logs, topics.quarantine}
        assert {name for operation, name in found if operation is Operation.WRITE} == written


def test_everything_that_is_said_to_need_rights_has_some() -> None:
    """No name of the table is refused by it."""
    settings = Settings.model_validate({"sinks": {"cold": {"kind": "file"}}})
    for name in known(settings):
        assert rights_of(settings, [name], {}), name


def test_a_sink_reads_the_topic_of_its_rows_and_writes_dead_letters() -> None:
    """A sink of dead letters reads Errors instead of the flows; its group is that of its name, not of its kind."""
    sinks = {"cold": {"kind": "file"}, "letters": {"kind": "file", "rows": "dead_letters"}}
    settings = Settings.model_validate({"sinks": sinks})
    flows, errors = settings.topics.flows, settings.topics.errors
    for name, topic in (("cold", flows), ("letters", errors), ("not-configured", flows)):
        user = f"User:sink-{name}"
        assert set(rights_of(settings, [f"sink-{name}"], {})) == {
            Right(user, Operation.READ, On.TOPIC, topic),
            Right(user, Operation.WRITE, On.TOPIC, errors),
            Right(user, Operation.DESCRIBE_CONFIGS, On.TOPIC, errors),
            Right(user, Operation.READ, On.GROUP, f"blobtide.sink.{name}"),
        }


def test_topics_of_aggregations_are_those_of_the_settings() -> None:
    """The aggregator may write them, and a sink that reads one of them may read it, and no other."""
    aggregations = [{"preset": "policy"}, {"preset": "talkers", "topic": "Metrics.Own"}]
    sinks = {"own": {"kind": "file", "rows": "rollups", "read_topic": "Metrics.Own"}}
    settings = Settings.model_validate({"aggregator": {"aggregations": aggregations}, "sinks": sinks})
    topics = settings.topics

    def of(name: str, operation: Operation) -> set[str]:
        return {one.name for one in rights_of(settings, [name], {}) if (one.on, one.operation) == (On.TOPIC, operation)}

    assert of("aggregator", Operation.READ) == {topics.flows}
    assert of("aggregator", Operation.WRITE) == {topics.rollups, "Metrics.Own", topics.errors}
    assert of("sink-own", Operation.READ) == {"Metrics.Own"}


def test_a_sink_that_writes_to_the_pipelines_own_kafka_may_do_so() -> None:
    """Its topics, its positions and its transactional ids; in another cluster, or idempotent, it needs less here."""
    row = {"kind": "kafka", "topic": "rows.flows"}
    sinks = {
        "once": row,
        "named": row | {"topic": "rows.{action}"},
        "plain": row | {"delivery": "idempotent"},
        "away": row | {"cluster": {"bootstrap_servers": "far:9092"}},
    }
    settings = Settings.model_validate({"sinks": sinks})
    positions = {"Read topic Sinks.Positions", "Write topic Sinks.Positions", "DescribeConfigs topic Sinks.Positions"}
    target = {"Write topic rows.flows", "DescribeConfigs topic rows.flows"}
    for name, more in (
        ("once", {*positions, *target, "Describe group blobtide.reader", "Write transactional ids from blobtide.sink.once."}),
        ("named", {*positions, "Describe group blobtide.reader", "Write transactional ids from blobtide.sink.named."}),
        ("plain", target),
        ("away", set()),
    ):
        rights = rights_of(settings, [f"sink-{name}"], {})
        usual = {"Read topic Extracted.Flows", "Write topic Errors", "DescribeConfigs topic Errors"}
        found = {f"{right.operation} {right.on} {right.name}" for right in rights}
        assert found == usual | {f"Read group blobtide.sink.{name}"} | more


def test_rows_that_do_not_exist_have_no_rights() -> None:
    """A misspelt row type is named with its setting."""
    settings = Settings.model_validate({"sinks": {"cold": {"kind": "file", "rows": "flow"}}})
    with pytest.raises(ConfigError, match=r"sinks\.cold\.rows: .*did you mean flows"):
        rights_of(settings, ["sink-cold"], {})


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"schedules": [{"name": "nightly", "templates": ["vms"], "subscriptions": ["s"]}]},
        {"api": {"token_file": "/secrets/token"}},
    ],
)
def test_a_collector_writes_requests_only_if_it_makes_some(more: dict[str, Any]) -> None:
    """By the clock, from the messages of a queue, or from what its API takes; otherwise it only reads them."""
    settings = Settings.model_validate({"collector": more})
    right = Right("User:collector", Operation.WRITE, On.TOPIC, settings.topics.collection_requests)
    assert (right in rights_of(settings, ["collector"], {})) is bool(more)
