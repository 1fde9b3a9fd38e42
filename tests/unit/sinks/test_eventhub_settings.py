"""Settings of the eventhub sink: connection strings, and the Kafka client that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.kafka.client.configs import consumer_config, producer_config
from libs.common.rows.types.flows import FLOWS
from libs.common.security.redaction import redact
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from services.sinks.frame.kind import Promise
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.eventhub.connection_string import ConnectionString
from services.sinks.kinds.eventhub.settings import EventHubSettings
from services.sinks.kinds.eventhub.sink import EventHubSink

KEY = "bm90IGEga2V5IGF0IGFsbA=="
NAMESPACE = f"Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey={KEY}"
HUB = f"{NAMESPACE};EntityPath=rows"
LARGEST_REQUEST = 1_046_528
IDLE_MS = 240_000


def sink(**options: Any) -> EventHubSink:
    """Return a sink that has joined a pipeline; not opened."""
    made = configured_sink({"eventhub": options}, "eventhub", Settings(kafka=KafkaSettings(group_prefix="own"))).sink
    assert isinstance(made, EventHubSink)
    return made


def test_a_connection_string_names_namespace_and_hub() -> None:
    """Names are in any case and order, spaces and a last semicolon mean nothing, and values may contain equals signs."""
    assert ConnectionString.parse(NAMESPACE, "s") == ConnectionString("shop.servicebus.windows.net")
    assert ConnectionString.parse(HUB, "s") == ConnectionString("shop.servicebus.windows.net", "rows")
    odd = f" ENTITYPATH=rows ; sharedaccesskey={KEY};SharedAccessKeyName=a;endpoint=sb://H:5671/;\n"
    assert ConnectionString.parse(odd, "s") == ConnectionString("h", "rows")
    signature = "Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=a&sig=b%3d&se=1&skn=c"
    assert ConnectionString.parse(signature, "s") == ConnectionString("h")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (KEY[:-2], "s is no connection string"),
        ("", "s has no Endpoint"),
        (f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY}", "s is a connection string of a storage account"),
        (f"Endpoint=https://h/;SharedAccessKeyName=a;SharedAccessKey={KEY}", "s has no Endpoint"),
        (f"Endpoint=sb:///;SharedAccessKeyName=a;SharedAccessKey={KEY}", "s has no Endpoint"),
        (f"Endpoint=sb://h/;SharedAccessKey={KEY}", "s has no SharedAccessKeyName"),
        ("Endpoint=sb://h/;SharedAccessKeyName=a;SharedAccessKey=", "s has no SharedAccessKeyName"),
    ],
)
def test_what_is_no_connection_string_is_said_without_its_secrets(text: str, said: str) -> None:
    """What is missing is named, and nothing is quoted."""
    with pytest.raises(ConfigError, match=said) as raised:
        ConnectionString.parse(text, "s")
    assert KEY[:-2] not in str(raised.value)


def test_the_key_in_a_connection_string_is_a_secret_of_its_own() -> None:
    """The key alone is removed from output as well."""
    sink(connection_string=NAMESPACE, topic="rows").read_files()
    assert KEY not in redact(f"the key {KEY}")


def test_the_client_is_what_event_hubs_requires(tmp_path: Path) -> None:
    """Sign-in, TLS, idle times, timeouts and sizes are preset, whether the string is in the settings or in a file."""
    file = tmp_path / "string"
    file.write_text(f"{NAMESPACE}\n")
    for options in ({"connection_string": NAMESPACE}, {"connection_string_file": str(file)}):
        config = producer_config(sink(topic="rows", **options).cluster())
        assert config["bootstrap.servers"] == "shop.servicebus.windows.net:9093"
        assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
        assert (config["sasl.username"], config["sasl.password"]) == ("$ConnectionString", NAMESPACE)
        idle = ("metadata.max.age.ms", "topic.metadata.refresh.interval.ms", "connections.max.idle.ms")
        assert all(int(config[name]) < IDLE_MS for name in idle)
        assert int(config["request.timeout.ms"]) == int(config["message.timeout.ms"]) == 60_000
        assert config["message.max.bytes"] < LARGEST_REQUEST
        assert (config["enable.idempotence"], config["compression.type"]) == (True, "none")


def test_consumers_get_no_options_of_producers() -> None:
    """The client would log that they have no effect."""
    config = consumer_config(sink(topic="rows", connection_string=NAMESPACE).cluster(), "group")
    assert not {"request.timeout.ms", "message.timeout.ms"} & config.keys()
    assert config["connections.max.idle.ms"] == "180000"


def test_a_token_signs_in() -> None:
    """With oauth the scope follows from the namespace."""
    oauth = {"token_url": "https://login/tenant/oauth2/v2.0/token", "client_id": "id", "client_secret": "secret"}
    config = producer_config(sink(oauth=oauth, namespace="shop.servicebus.windows.net:1", topic="rows").cluster())
    assert config["sasl.mechanism"] == "OAUTHBEARER"
    assert config["sasl.oauthbearer.scope"] == "https://shop.servicebus.windows.net/.default"
    assert config["bootstrap.servers"] == "shop.servicebus.windows.net:1"
    own = producer_config(sink(oauth={**oauth, "scope": "own"}, namespace="n", topic="rows").cluster())
    assert own["sasl.oauthbearer.scope"] == "own"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"topic": "rows"}, "give one of connection_string, connection_string_file and oauth"),
        ({"connection_string": HUB, "connection_string_file": "f"}, "give one of"),
        ({"connection_string": HUB, "oauth": {"token_url": "https://t", "client_id": "i"}}, "give one of"),
        ({"oauth": {"token_url": "https://t", "client_id": "i"}}, "oauth requires namespace and topic"),
        ({"connection_string": HUB, "namespace": "https://h"}, "give a host name"),
        ({"connection_string": HUB, "namespace": "h:99999"}, "the port is a number"),
        ({"connection_string": HUB, "compression": "lz4"}, "compression"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], said: str) -> None:
    """Exactly one way to sign in, and what Event Hubs does not take is no option."""
    with pytest.raises(ValidationError, match=said) as raised:
        EventHubSettings.model_validate(options)
    assert KEY not in str(raised.value)


def test_a_string_of_one_hub_names_the_topic(tmp_path: Path) -> None:
    """The EntityPath is the topic by default, must not be another one, and does not suffice for transactions."""
    file = tmp_path / "string"
    file.write_text(HUB)
    for options in ({"connection_string": HUB}, {"connection_string_file": str(file)}):
        own = sink(**options)
        own.cluster()
        assert own.topic_name == "rows"
        sink(topic="rows", **options).read_files()
        for topic in ("other", "{action}"):
            with pytest.raises(ConfigError, match=r"for the event hub rows only"):
                sink(topic=topic, **options).read_files()
        with pytest.raises(ConfigError, match="connection string of the namespace"):
            sink(delivery="transactional", **options).read_files()
    with pytest.raises(ConfigError, match=r"sinks\.eventhub\.topic: name an event hub"):
        sink(connection_string=NAMESPACE)
    file.write_text(NAMESPACE)
    with pytest.raises(ConfigError, match="topic: name an event hub"):
        sink(connection_string_file=str(file)).read_files()


@pytest.mark.parametrize("topic", ["Extracted.Flows", "a/b", "-rows", "rows.", "_{action}"])
def test_a_name_that_no_event_hub_has_is_refused(topic: str) -> None:
    """Names begin and end with a letter or digit, and are none of the pipeline's own topics."""
    with pytest.raises(ConfigError, match=r"sinks\.eventhub\.topic: "):
        sink(connection_string=NAMESPACE, topic=topic)


def test_what_the_client_gets_in_addition_is_checked() -> None:
    """Options that would break the promise are refused."""
    with pytest.raises(ConfigError, match=r"librdkafka\.acks"):
        sink(connection_string=NAMESPACE, topic="rows", librdkafka={"acks": "1"}).read_files()


def test_only_transactions_promise_once() -> None:
    """By default the promise is at least once."""
    assert sink(connection_string=HUB).promise is Promise.AT_LEAST_ONCE
    assert sink(connection_string=NAMESPACE, topic="r", delivery="transactional").promise is Promise.EFFECTIVELY_ONCE


def test_it_uses_nothing_of_the_pipelines_cluster() -> None:
    """Its user needs no rights there besides those of every sink."""
    used = EventHubSink(EventHubSettings.model_validate({"connection_string": HUB}), FLOWS).kafka_use()
    assert (used.reads, used.writes, used.is_transactional) == ((), (), False)
