"""Configurations of Kafka clients, derived from the settings in one place, and the check that Kafka is reachable.

Everything that affects delivery guarantees (acknowledgements, isolation, offsets, partitioner) is fixed here and cannot be
overridden by ``kafka.librdkafka``; everything else can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.kafka.client.certificates import authorities_here, why_not_trusted
from libs.common.kafka.client.client_log import ClientLog, reason_in
from libs.common.kafka.client.failures import error_of, is_denied, translated
from libs.common.kafka.client.login import RENEWING, PasswordFileLogin, password
from libs.common.kafka.client.protocols import ListingClient
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.common.settings.oauth import OAuthSettings
from libs.common.settings.secrets import read_secret

Config = dict[str, Any]
Client = TypeVar("Client")
Answer = TypeVar("Answer")

# Older clients lose data in transactions and rebalances.
OLDEST_LIBRDKAFKA: Final = (2, 15)
REACHABLE_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0

_MECHANICAL = ("bootstrap_servers", "security_protocol")
_SASL = ("sasl_mechanism", "sasl_username")
_TLS = ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location")
# Of these a consumer would log that they have no effect.
_OF_PRODUCERS: Final = frozenset(
    {
        *("batch.num.messages", "batch.size", "compression.codec", "compression.level", "compression.type"),
        *("delivery.timeout.ms", "linger.ms", "message.send.max.retries", "message.timeout.ms", "partitioner"),
        *("queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes", "queue.buffering.max.messages"),
        *("queue.buffering.max.ms", "request.timeout.ms", "retries", "sticky.partitioning.linger.ms"),
    }
)
_TOKENS_FROM = "sasl.oauthbearer.token.endpoint.url"
_ASKS_FOR_CERTIFICATE = re.compile("alert .*(certificate|unknown ca)")
_SMALLEST_FETCH = 16 * 1024 * 1024
_PARTITION_FETCH = 256 * 1024
_MIB = 1024 * 1024
_MOST_LISTED = 5
_EXPLAINED_SECONDS = 2.0


def consumer_config(kafka: KafkaSettings, group: str) -> Config:
    """Return the configuration of a consumer in `group` that reads committed records and never commits by itself."""
    fetch_bytes = max(kafka.message_max_bytes, _SMALLEST_FETCH)
    fixed = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Never skip silently: we handle a missing or invalid position ourselves (group/consumer.py).
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "range",
        "check.crcs": True,
    }
    chosen = {
        "session.timeout.ms": kafka.session_timeout_ms,
        "heartbeat.interval.ms": kafka.session_timeout_ms // 4,
        "max.poll.interval.ms": kafka.max_poll_interval_ms,
        "queued.max.messages.kbytes": kafka.fetch_memory_kbytes,
        # Compressed bytes of one partition per response: decompressed they are several times that, on top of the prefetch.
        "fetch.message.max.bytes": _PARTITION_FETCH,
        # Notice new partitions within half a minute instead of the default five minutes.
        "topic.metadata.refresh.interval.ms": 30_000,
        # With the default of a second, a full prefetch queue would stop the flow again and again.
        "fetch.queue.backoff.ms": 50,
        "fetch.max.bytes": fetch_bytes,
        "receive.message.max.bytes": max(100_000_000, fetch_bytes + _MIB),
    }
    return _merged(kafka, chosen, fixed, _OF_PRODUCERS)


def reader_group(kafka: KafkaSettings) -> str:
    """Return the group name of readers. They join no group and commit nothing, but the client looks up the coordinator."""
    return f"{kafka.group_prefix}.reader"


def producer_config(kafka: KafkaSettings) -> Config:
    """Return the configuration of an idempotent producer without transactions."""
    return _merged(kafka, _producer_limits(kafka), _PRODUCER_FIXED)


def transactional_config(kafka: KafkaSettings, transactional_id: str) -> Config:
    """Return the configuration of a transactional producer."""
    fixed = {
        **_PRODUCER_FIXED,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": kafka.transaction_timeout_ms,
    }
    return _merged(kafka, _producer_limits(kafka), fixed)


def admin_config(kafka: KafkaSettings) -> Config:
    """Return the configuration of an admin client."""
    return _merged(kafka, {}, {})


_PRODUCER_FIXED: Mapping[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
}


def _producer_limits(kafka: KafkaSettings) -> Config:
    # Messages and requests time out before the transaction does, so that the coordinator never ends it behind our back.
    give_up_ms = min(10_000, kafka.transaction_timeout_ms * 2 // 3)
    return {
        "message.timeout.ms": give_up_ms,
        "socket.timeout.ms": give_up_ms,
        "message.max.bytes": kafka.message_max_bytes,
        "compression.type": str(kafka.compression),
        "queue.buffering.max.kbytes": max(64 * 1024, 2 * kafka.message_max_bytes // 1024),
    }


def _merged(
    kafka: KafkaSettings, chosen: Config, fixed: Mapping[str, object], left_out: Collection[str] = frozenset()
) -> Config:
    _refuse_old_client()
    if clash := sorted(kafka.librdkafka.keys() & fixed.keys()):
        raise ConfigError(f"kafka.librdkafka.{clash[0]} is set by blobtide and cannot be changed; remove it")
    connection = {
        **_connection(kafka),
        # Reconnect within two seconds of a broker's return instead of the default ten.
        "reconnect.backoff.max.ms": 2_000,
        "socket.keepalive.enable": True,
    }
    given = {name: value for name, value in kafka.librdkafka.items() if name not in left_out}
    return {**connection, **chosen, **given, **fixed}


def _connection(kafka: KafkaSettings) -> Config:
    """Return the connection settings with underscores replaced by dots."""
    names: tuple[str, ...] = _MECHANICAL
    secret: Config = {}
    if kafka.signs_in:
        names += _SASL
        secret = _oauth(kafka.oauth) if kafka.gets_tokens else _secret(kafka)
    if kafka.security_protocol.endswith("SSL"):
        names += _TLS
        secret |= {} if kafka.verify else {"enable.ssl.certificate.verification": False}
    _guard(kafka)
    values = {name.replace("_", "."): getattr(kafka, name) for name in names}
    return {name: str(value) for name, value in values.items() if value not in (None, "")} | secret


def _guard(kafka: KafkaSettings) -> None:
    """Refuse to sign in unencrypted unless allowed, and record missing protection. Raises `ConfigError`."""
    if kafka.security_protocol is SecurityProtocol.SASL_PLAINTEXT:
        # No exception for this machine: a broker redirects clients to the others, wherever they are.
        guard_credentials("kafka", [kafka.bootstrap_servers], kafka)
    for name, url in (
        (f"librdkafka.{_TOKENS_FROM}", kafka.librdkafka.get(_TOKENS_FROM)),
        ("oauth.token_url", kafka.oauth.token_url),
    ):
        if kafka.signs_in and url and is_plain(url, "https"):
            guard_credentials("kafka", [name], kafka)
    if kafka.security_protocol.endswith("SSL") and not _verifies(kafka):
        note("kafka", Lack.VERIFICATION)


def _verifies(kafka: KafkaSettings) -> bool:
    options = kafka.librdkafka
    checks = options.get("enable.ssl.certificate.verification", str(kafka.verify)).lower() in {"true", "t", "1"}
    return checks and options.get("ssl.endpoint.identification.algorithm", "https") == "https"


def _oauth(oauth: OAuthSettings) -> Config:
    given = oauth.client_secret if oauth.client_secret.get_secret_value() else None
    values = {
        "sasl.oauthbearer.method": "oidc",
        _TOKENS_FROM: oauth.token_url,
        "sasl.oauthbearer.client.id": oauth.client_id,
        "sasl.oauthbearer.client.secret": read_secret("kafka.oauth.client_secret", given, oauth.client_secret_file),
        "sasl.oauthbearer.scope": oauth.scope,
        "https.ca.location": oauth.ca_location
        or authorities_here(),  # the client's own default is a path of one Linux distribution
    }
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


def _secret(kafka: KafkaSettings) -> Config:
    if kafka.sasl_password_file is None:
        return {"sasl.password": password(kafka)}
    login = PasswordFileLogin(kafka)
    return {"sasl.password": login.current, "error_cb": login}


def _refuse_old_client() -> None:
    text, number = confluent_kafka.libversion()
    if (number >> 24, number >> 16 & 0xFF) < OLDEST_LIBRDKAFKA:
        wanted = ".".join(map(str, OLDEST_LIBRDKAFKA))
        raise ConfigError(f"librdkafka {text} is too old and can lose data; install confluent-kafka {wanted} or newer")


def make_admin(kafka: KafkaSettings) -> AdminClient:
    """Return an admin client.

    Raises:
        ConfigError: the settings contradict each other.
    """
    return make_client(AdminClient, admin_config(kafka), ClientLog("admin"))


def make_client(kind: Callable[..., Client], config: Config, log: ClientLog) -> Client:
    """Return a client of `kind` with `config` that logs to `log`. A client with a password file picks up its changes.

    Raises:
        ConfigError: librdkafka does not accept the configuration.
    """
    if isinstance(config.get("error_cb"), PasswordFileLogin):
        kind = RENEWING.get(kind, kind)
    try:
        return kind(config, logger=log)
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else str(error)
        raise ConfigError(f"invalid kafka settings: {reason}") from error


def check_clients(kafka: KafkaSettings) -> None:
    """Create one client of each kind that services use, without an address, so that nothing connects.

    Raises:
        ConfigError: a secret or certificate cannot be read, or librdkafka does not know or accept an option.
    """
    role = f"{kafka.group_prefix}.check"
    log = SilentLog("check")
    consumer: Consumer = make_client(Consumer, _without_address(consumer_config(kafka, role)), log)
    consumer.close()
    for config in (producer_config(kafka), transactional_config(kafka, role)):
        make_client(Producer, _without_address(config), log)
    make_client(AdminClient, _without_address(admin_config(kafka)), log)


def _without_address(config: Config) -> Config:
    return {name: value for name, value in config.items() if name != "bootstrap.servers"}


def answer_of(future: Future[Answer], doing: str) -> Answer:
    """Wait for the response to an admin request. Keep the admin client alive until then: its requests end with it.

    Raises:
        ServerUnreachable: Kafka does not respond within `ANSWER_SECONDS`.
        BlobtideError: Kafka refuses.
    """
    try:
        return future.result(2 * ANSWER_SECONDS)
    except KafkaException as error:
        raise translated(error_of(error), doing) from error
    except TimeoutError as error:
        raise ServerUnreachable(f"Kafka did not respond while {doing}") from error


def check_reachable(kafka: KafkaSettings, topics: tuple[str, ...] = (), seconds: float = REACHABLE_SECONDS) -> None:
    """Return once Kafka responds and has `topics`; nothing else reports a wrong address synchronously.

    Raises:
        ServerUnreachable: Kafka does not respond within `seconds`, or refuses us; the message says what to check.
        ConfigError: a topic does not exist.
        BlobtideError: this user is not permitted to know whether it exists.
    """
    problems: list[KafkaError] = []
    client_log = SilentLog("check")
    admin = make_client(AdminClient, {**admin_config(kafka), "error_cb": problems.append}, client_log)
    try:
        present = admin.list_topics(timeout=seconds).topics
    except KafkaException as error:
        admin.poll(0)
        raise ServerUnreachable(_unreachable(kafka, problems, client_log)) from error
    for topic in topics:
        if topic not in present:
            raise missing_topic(admin, topic)


def missing_topic(admin: AdminClient, topic: str) -> BlobtideError:
    """Return the error for a topic that Kafka does not list: it does not exist, or is hidden from this user."""
    try:
        error = admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].error
    except KafkaException as exception:
        error = error_of(exception)
    if error is not None and is_denied(error):
        return translated(error, f"looking up topic {topic}")
    return ConfigError(f"topic {topic} does not exist; run `blobtide topics apply`")


def missing_topics(kafka: KafkaSettings, topics: Collection[str]) -> str:
    """Return which of `topics` Kafka does not list, in words, to explain a failure; empty if it lists all, or is down.

    Nothing else says it in time: a producer waits half a minute for a topic that may be about to appear.
    """
    admin = make_client(AdminClient, admin_config(kafka), SilentLog("check"))
    try:
        return missing_in(admin, topics)
    except KafkaException:
        return ""


def missing_in(client: ListingClient, topics: Collection[str]) -> str:
    """Return which of `topics` the brokers of `client` do not list, in words; empty if they list all. Raises KafkaException."""
    missing = sorted(set(topics) - client.list_topics(timeout=_EXPLAINED_SECONDS).topics.keys())
    if not missing:
        return ""
    listed, do = ", ".join(missing[:_MOST_LISTED]), "does" if len(missing) == 1 else "do"
    more = f" and {len(missing) - _MOST_LISTED} more" if len(missing) > _MOST_LISTED else ""
    return f"topic {listed}{more} {do} not exist, or this user may not see it"


class SilentLog(ClientLog):
    """Keeps the reason without logging it: the caller raises it, or another client logs it."""

    def _tell(self) -> None:
        pass


def _unreachable(kafka: KafkaSettings, problems: list[KafkaError], log: ClientLog) -> str:
    where = f"Kafka at {kafka.bootstrap_servers} ({kafka.security_protocol.value})"
    codes = {problem.code() for problem in problems}
    reason = reason_in(problems[0].str()) if problems else log.last_problem or "no answer"
    if KafkaError._AUTHENTICATION in codes:  # noqa: SLF001
        return _no_login(kafka, where, reason)
    if KafkaError._SSL in codes:  # noqa: SLF001
        why = why_not_trusted(kafka) if "certificate verify failed" in reason else ""
        hint = "check kafka.security_protocol and kafka.ssl_ca_location"
        return f"{where} is not trusted: {why}" if why else f"{where} refused TLS: {reason}; {hint}"
    if _ASKS_FOR_CERTIFICATE.search(reason):
        hint = "check kafka.ssl_certificate_location and kafka.ssl_key_location"
        return f"{where} refused our certificate, or requires one: {reason}; {hint}"
    if KafkaError._RESOLVE in codes:  # noqa: SLF001
        return f"{where} cannot be resolved: {reason}; check kafka.bootstrap_servers"
    return f"{where} is unreachable: {reason}; check that it is running, kafka.bootstrap_servers and kafka.security_protocol"


def _no_login(kafka: KafkaSettings, where: str, reason: str) -> str:
    if kafka.gets_tokens:
        return f"cannot sign in to {where}: {reason}; check kafka.oauth, and what the brokers require of tokens"
    return f"{where} refused the login: {reason}; check kafka.sasl_mechanism, sasl_username and sasl_password"
