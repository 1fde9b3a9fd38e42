"""Protection that settings give up: credentials without encryption, servers without proof of who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from libs.common.azure.storage.credentials import resolve
from libs.common.errors import ConfigError
from libs.common.kafka.client.configs import producer_config
from libs.common.security import transport
from libs.common.settings.kafka import KafkaSettings
from libs.common.settings.storage import StorageAccount
from libs.common.settings.transport import PlaintextSettings
from services.sinks.frame.kind import all_kinds
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import module_of

KEY = "c2VjcmV0LWtleQ=="
SAS = "sv=1&sig=abc"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SASL = {"sasl_username": "u", "sasl_password": "p"}
OAUTH = {"sasl_mechanism": "OAUTHBEARER"}
TOKENS = "sasl.oauthbearer.token.endpoint.url"


@dataclass(frozen=True)
class Peer:
    """Something that one signs in to: its name, and how one gets ready to."""

    to: str
    prepare: Callable[[dict[str, Any]], object]


def _sink(kind: str) -> Callable[[dict[str, Any]], object]:
    def prepare(options: dict[str, Any]) -> None:
        configured_sink({kind: options}, kind).sink.read_files()

    return prepare


KAFKA = Peer("kafka", lambda options: producer_config(KafkaSettings(**options)))
STORAGE = Peer("storage of environment s.e", lambda options: resolve(StorageAccount(**options), "s.e"))
SEARCH = Peer("elasticsearch", _sink("elasticsearch"))
REDIS = Peer("redis", _sink("redis"))
CLICKHOUSE = Peer("clickhouse", _sink("clickhouse"))
MQTT = Peer("mqtt", _sink("mqtt"))
LOGIN = {"username": "u", "password": "p"}
HUB = "Endpoint=sb://space.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0;EntityPath=rows"

# Of every sink that takes secrets: a login without TLS, from its harness.
PLAIN_SINKS: dict[str, dict[str, Any]] = {
    kind: options for kind in all_kinds() if (options := getattr(module_of(kind), "WITHOUT_TLS", None)) is not None
}
PLAIN: list[tuple[Peer, dict[str, Any]]] = [
    (KAFKA, {"security_protocol": "SASL_PLAINTEXT", **SASL, "bootstrap_servers": "broker:9092"}),
    (KAFKA, {"security_protocol": "SASL_PLAINTEXT", **SASL, "bootstrap_servers": "127.0.0.1:9092"}),
    (KAFKA, {"security_protocol": "SASL_SSL", **SASL, "librdkafka": {TOKENS: "http://login/token"}}),
    (KAFKA, {"security_protocol": "SASL_SSL", **OAUTH, "oauth": {"token_url": "http://login/token", "client_id": "c"}}),
    (STORAGE, {"account_url": "http://emulator:10000/a", "account_key": SecretStr(KEY)}),
    (STORAGE, {"account_url": "http://emulator:10000/a", "sas_token": SecretStr(SAS)}),
    (STORAGE, {"connection_string": SecretStr(f"AccountName=a;AccountKey={KEY};DefaultEndpointsProtocol=http")}),
    (SEARCH, PLAIN_SINKS["elasticsearch"]),
    (SEARCH, {"hosts": ["http://10.0.0.1"], "username": "u", "password": "p"}),
    (SEARCH, {"hosts": ["http://10.0.0.1"], "bearer_token": "t"}),
    (REDIS, PLAIN_SINKS["redis"]),
    (REDIS, {"url": "redis://127.0.0.1:6379", "password": "p", "cluster": True}),
    (CLICKHOUSE, PLAIN_SINKS["clickhouse"]),
    (MQTT, PLAIN_SINKS["mqtt"]),
    *(
        (Peer(kind, _sink(kind)), PLAIN_SINKS[kind])
        for kind in ("amqp", "etcd", "fluent", "http", "influxdb", "otlp", "postgres", "snowflake")
    ),
    (Peer("kafka", _sink("eventhub")), PLAIN_SINKS["eventhub"]),
]
HARMLESS: list[tuple[Peer, dict[str, Any]]] = [
    (KAFKA, {"security_protocol": "SASL_SSL", **SASL}),
    (KAFKA, {"bootstrap_servers": "broker:9092"}),
    (KAFKA, {"security_protocol": "SASL_SSL", **SASL, "librdkafka": {TOKENS: "https://login/token"}}),
    (KAFKA, {"security_protocol": "SASL_SSL", **OAUTH, "oauth": {"token_url": "https://login/token", "client_id": "c"}}),
    (STORAGE, {"account_url": "http://127.0.0.1:10000/a", "account_key": SecretStr(KEY)}),
    (STORAGE, {"account_url": "http://azurite:10000/devstoreaccount1", "account_key": SecretStr(EMULATOR_KEY)}),
    (SEARCH, {"hosts": ["http://search:9200"]}),
    (SEARCH, {"hosts": ["http://[::1]:9200", "http://localhost:9200", "https://search"], "api_key": "k"}),
    (REDIS, {"url": "redis://cache:6379"}),
    (REDIS, {"url": "redis://localhost:6379", "password": "p"}),
    (REDIS, {"url": "rediss://cache:6379", "password": "p"}),
    (CLICKHOUSE, {"hosts": ["http://clickhouse:8123"]}),
    (CLICKHOUSE, {"hosts": ["http://localhost:8123", "https://clickhouse"], **LOGIN}),
    (MQTT, {"url": "mqtt://broker"}),
    (MQTT, {"url": "mqtts://broker", **LOGIN}),
    (MQTT, {"url": "mqtt://[::1]", **LOGIN}),
]
UNVERIFIED: list[tuple[Peer, dict[str, Any]]] = [
    (KAFKA, {"security_protocol": "SSL", "verify": False}),
    (KAFKA, {"security_protocol": "SASL_SSL", **SASL, "librdkafka": {"enable.ssl.certificate.verification": "false"}}),
    (KAFKA, {"security_protocol": "SSL", "librdkafka": {"ssl.endpoint.identification.algorithm": "none"}}),
    (SEARCH, {"hosts": ["https://search"], "verify": False}),
    (REDIS, {"url": "rediss://cache", "verify": False}),
    (CLICKHOUSE, {"hosts": ["https://clickhouse"], "verify": False}),
    (MQTT, {"url": "mqtts://broker", "verify": False}),
    (Peer("amqp", _sink("amqp")), {"urls": ["amqps://a"], "verify": False}),
    (Peer("fluent", _sink("fluent")), {"hosts": ["tls://a"], "verify": False}),
    (Peer("postgres", _sink("postgres")), {"hosts": ["db"], "tls": True, "verify": False}),
    (Peer("kafka", _sink("eventhub")), {"connection_string": HUB, "verify": False}),
    *((Peer(kind, _sink(kind)), {"hosts": ["https://a"], "verify": False}) for kind in ("etcd", "http", "influxdb", "otlp")),
]


@pytest.fixture(autouse=True)
def _nothing_noted() -> Iterator[None]:
    for forget in (transport._NOTED.clear, transport.UNPROTECTED.clear):
        forget()
    yield
    for forget in (transport._NOTED.clear, transport.UNPROTECTED.clear):
        forget()


def lacks(peer: Peer) -> set[str]:
    """Return what the metric says that connections to `peer` lack."""
    samples = [sample for family in transport.UNPROTECTED.collect() for sample in family.samples if sample.value]
    return {sample.labels["lacks"] for sample in samples if sample.labels["to"] == peer.to}


@pytest.mark.parametrize(("peer", "options"), PLAIN)
def test_credentials_go_without_encryption_only_where_a_setting_says_so(
    peer: Peer, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A login without TLS is refused with the setting that allows it; where that is set, the log and the metric say so."""
    with pytest.raises(ConfigError, match="allow_plaintext_credentials: true") as caught:
        peer.prepare(options)
    assert str(caught.value).startswith(f"{peer.to}: credentials would go to ")
    assert lacks(peer) == set()
    for _ in range(2):
        peer.prepare({**options, "allow_plaintext_credentials": True})
    assert lacks(peer) == {"encryption"}
    assert capsys.readouterr().out.count("unencrypted") == 1, "said once a process"


@pytest.mark.parametrize(("peer", "options"), HARMLESS)
def test_what_gives_nothing_away_needs_no_setting(peer: Peer, options: dict[str, Any]) -> None:
    """TLS, no credentials, this machine where it leads nowhere else, and the emulator's public key are nothing to speak of."""
    peer.prepare(options)
    assert lacks(peer) == set()


@pytest.mark.parametrize(("peer", "options"), UNVERIFIED)
def test_certificates_that_are_not_checked_are_spoken_of(
    peer: Peer, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever turns the check of certificates off reads so in the log at every start and sees it in the metric."""
    peer.prepare(options)
    assert "anyone can impersonate the server" in capsys.readouterr().out
    assert lacks(peer) == {"verification"}


def test_kafka_is_told_not_to_check() -> None:
    """`verify: false` reaches the Kafka client; without it nothing of its default is touched."""
    name = "enable.ssl.certificate.verification"
    assert producer_config(KafkaSettings(security_protocol="SSL", verify=False))[name] is False  # type: ignore[arg-type]
    assert name not in producer_config(KafkaSettings(security_protocol="SSL"))  # type: ignore[arg-type]


def test_every_sink_with_secrets_is_guarded() -> None:
    """A sink whose settings take a secret takes the setting for plain transport too, and is tried above."""
    settings = {name: kind.load(kind.settings) for name, kind in all_kinds().items()}
    secret = {
        kind for kind, model in settings.items() if any("SecretStr" in str(f.annotation) for f in model.model_fields.values())
    }
    assert secret == set(PLAIN_SINKS)
    assert all(issubclass(settings[kind], PlaintextSettings) for kind in secret)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
@pytest.mark.parametrize("name", ["sasl_username", "sasl_password", "sasl_password_file"])
def test_a_login_that_would_not_be_used_is_refused(protocol: str, name: str) -> None:
    """User or password beside a protocol that does not sign in is a mistake that would show as a refusal, or never."""
    with pytest.raises(ValidationError, match=f"{name} would have no effect: security_protocol {protocol}"):
        KafkaSettings.model_validate({"security_protocol": protocol, name: "x"})
    assert KafkaSettings.model_validate({"security_protocol": protocol, name: ""}).sasl_password_file is None
