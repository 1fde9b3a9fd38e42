"""What the eventhub sink does beyond the sink contract, at a Kafka in the place of Event Hubs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import BlobtideError, ConfigError, Retry, ServerUnreachable
from libs.common.kafka.client.configs import make_admin
from libs.common.kafka.topics.making import make_topic
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import Case, killed
from tests.contract.harnesses.eventhub import EventHubHarness
from tests.event_hubs import DENIED, KEY, STRING, LocalEventHubs
from tests.flows import Spot, part, row, rows

pytestmark = pytest.mark.kafka


@pytest.fixture
def target(event_hubs: LocalEventHubs) -> EventHubHarness:
    """Give an empty event hub."""
    return EventHubHarness(Case("eventhub", "idempotent", FLOWS), event_hubs)


def made(target: EventHubHarness, **options: Any) -> Sink:
    """Return a sink with other options; not opened."""
    return configured_sink({"eventhub": target.all_options() | options}, "eventhub", target.pipeline()).sink


def test_a_connection_string_in_a_file_is_enough(event_hubs: LocalEventHubs, tmp_path: Path) -> None:
    """The string of one event hub names it, at an emulator without TLS too."""
    options = event_hubs.emulated()
    file = tmp_path / "string"
    file.write_text(options.pop("connection_string"))
    sink = configured_sink({"eventhub": {**options, "connection_string_file": str(file)}}, "eventhub", Settings()).sink
    sink.read_files()
    sink.open()
    assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    sink.close()
    assert sink.setup() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"connection_string": STRING.replace(KEY, "b3RoZXI=")},
            "refused the login: .*; check connection_string and namespace",
        ),
        ({"ssl_ca_location": None}, "is not trusted: .*"),
        ({"namespace": "127.0.0.1:1"}, r"127\.0\.0\.1:1.* is unreachable"),
    ],
)
def test_whoever_is_not_let_in_is_told_why(target: EventHubHarness, options: dict[str, Any], said: str) -> None:
    """A wrong key, an unknown authority and a wrong address are told apart, and no key is shown."""
    sink = made(target, **options)
    with pytest.raises(ServerUnreachable, match=said) as raised:
        sink.open()
    assert "b3RoZXI=" not in str(raised.value)
    assert KEY not in str(raised.value)
    sink.close()


def test_credentials_are_not_sent_in_the_clear(event_hubs: LocalEventHubs) -> None:
    """Without TLS it does not start, unless that is allowed."""
    options = event_hubs.emulated() | {"allow_plaintext_credentials": False}
    with pytest.raises(ConfigError, match="unencrypted"):
        configured_sink({"eventhub": options}, "eventhub", Settings()).sink.read_files()


def test_an_event_hub_that_is_missing_is_named(target: EventHubHarness) -> None:
    """Event hubs are created in Azure: the sink says which."""
    with pytest.raises(ConfigError, match=r"event hub other does not exist in 127.*: create it"):
        made(target, topic="other").open()
    transactional = {"delivery": "transactional", "positions_topic": "other"}
    with pytest.raises(ConfigError, match="event hub other does not exist: create it with cleanup policy compact and 12"):
        made(target, **transactional).open()
    make_topic(target.pipeline().kafka, "few", 3, {})
    with pytest.raises(ConfigError, match="event hub few has only 3 partitions: create it with"):
        made(target, delivery="transactional", positions_topic="few").open()


def test_transactions_are_tried_at_the_start(target: EventHubHarness, event_hubs: LocalEventHubs) -> None:
    """A namespace that opens no transactions is found out before anything is written."""
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AclBinding,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    pattern = ResourceType.TRANSACTIONAL_ID, DENIED, ResourcePatternType.PREFIXED
    rule = AclBinding(*pattern, "User:nobody", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    admin = make_admin(target.pipeline().kafka)
    admin.create_acls([rule])[rule].result(30)
    pipeline = target.pipeline()
    denied = pipeline.model_copy(update={"kafka": pipeline.kafka.model_copy(update={"group_prefix": DENIED})})
    options = target.all_options() | {"delivery": "transactional"}
    sink = configured_sink({"eventhub": options}, "eventhub", denied).sink
    with pytest.raises(
        ConfigError, match=r"opens no transactions: .*Premium or Dedicated tier: otherwise set delivery: idempotent"
    ):
        sink.open()
    sink.close()


def test_an_event_that_is_too_large_is_refused_by_name(target: EventHubHarness) -> None:
    """A row whose event no request holds is a dead letter; one that just fits is written, and so are its neighbours."""
    content = [*rows()[:3], row(Spot(8, 0, 0), rule="y" * 990_000)]
    huge = row(Spot(9, 0, 0), rule="x" * 1_000_000)
    for mode in ("idempotent", "transactional"):
        case = Case("eventhub", mode, FLOWS)
        own = EventHubHarness(case, target.hubs)
        sink = own.sink()
        sink.open()
        outcome = sink.write(case.parts([*content, huge]))
        sink.close()
        assert [one.code for one in outcome.rejected] == [ErrorCode.TOO_LARGE]
        assert outcome.written == len(content)
        assert own.read() == own.expected(content)


def test_a_namespace_killed_while_publishing_loses_nothing(target: EventHubHarness, event_hubs: LocalEventHubs) -> None:
    """A kill amid a write is a Retry; when it is back each row is there at least once."""
    case = target.case
    content = case.rows(4, 100, 50)
    sink = made(target, librdkafka={"message.timeout.ms": "3000"})
    sink.open()
    sink.write(case.parts(content[:10]))
    with killed(event_hubs), pytest.raises(Retry):
        sink.write(case.parts(content))
    _patient(sink, target, content)
    sink.close()
    assert target.read() == target.expected(content)


def _patient(sink: Sink, target: EventHubHarness, content: list[Any]) -> None:
    for _ in range(60):
        try:
            sink.write(target.case.parts(content))
        except (Retry, BlobtideError):
            continue
        return
    raise AssertionError("it never ends")
