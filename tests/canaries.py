"""Secrets that no output may show: they stand in the settings of processes that tests start; whatever those say is searched.

The search knows the ways in which a secret is written down by itself, and not from the code that takes secrets out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from confluent_kafka import Consumer, TopicPartition

from libs.common.kafka.readers.follow import Follower, Since
from libs.common.settings.kafka import KafkaSettings

# Of the storage account that tests read, so it is used everywhere; with all characters that encodings change.
ACCOUNT_KEY: Final = base64.b64encode(b"canary>>???" + bytes(range(248, 256)) + b"account-key").decode()
PASSWORD: Final = 'canary/pass word+"=&7Q'  # noqa: S105
TOKEN: Final = "canary-token-5b1f0e"  # noqa: S105
_SAS: Final = f"sv=2024-01-01&sp=rl&sig={quote(ACCOUNT_KEY[::-1], safe='')}"
_SECRETS: Final = (ACCOUNT_KEY, ACCOUNT_KEY[::-1], PASSWORD, TOKEN)
_SIGNATURE: Final = re.compile(r"SharedKey [a-z0-9]+:[A-Za-z0-9+/]{43}=")
_SECONDS: Final = 30.0


def with_canaries(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with secrets in every group that may hold some; what they belong to is never used."""
    kafka = {"librdkafka": {"sasl.password": PASSWORD, "ssl.key.password": TOKEN}, **settings.get("kafka", {})}
    unused = {
        "canary-redis": {"kind": "redis", "url": "rediss://canary:1", "password": PASSWORD},
        "canary-search": {"kind": "elasticsearch", "hosts": ["https://canary:1"], "api_key": TOKEN},
    }
    changed = {**settings, "kafka": kafka, "sinks": {**settings.get("sinks", {}), **unused}}
    if subscriptions := settings.get("subscriptions"):
        changed["subscriptions"] = {**subscriptions, "canary": {"environments": dict(_environments())}}
    return changed


def leaks(text: str) -> list[str]:
    """Return what `text` shows of the secrets."""
    forms = {form for secret in _SECRETS for form in _forms(secret)}
    return [form for form in sorted(forms) if form in text] + _SIGNATURE.findall(text)


def leaks_in(directory: Path) -> list[str]:
    """Return what output that processes left in `directory` shows of the secrets; segments of a broker are no output."""
    found = []
    for file in sorted(directory.rglob("*")):
        if file.suffix in {".log", ".out"} and file.is_file() and not file.stem.isdigit():
            found += [f"{file}: {leak}" for leak in leaks(file.read_text(errors="replace"))]
    return found


def leaks_in_headers(kafka: KafkaSettings, topic: str) -> list[str]:
    """Return what headers of the dead letters in `topic` show of the secrets."""
    if not _has_messages(kafka, topic):
        return []
    follower = Follower(kafka, (topic,), Since(0))
    follower.open()
    try:
        headers = (f"{name}={value!r}" for record in follower.backlog() for name, value in record.headers)
        return [leak for header in headers for leak in leaks(header)]
    finally:
        follower.close()


def assert_silent(found: Iterable[str]) -> None:
    """Fail if secrets were found.

    Raises:
        AssertionError: with where they stand.
    """
    shown = list(found)
    assert not shown, f"secrets in output: {shown}"


def _has_messages(kafka: KafkaSettings, topic: str) -> bool:
    with closing(Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "canaries"})) as consumer:
        partitions = consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
        bounds = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_SECONDS) for number in partitions]
        return any(high > low for low, high in bounds)


def _environments() -> Iterator[tuple[str, dict[str, Any]]]:
    connection_string = f"AccountName=canary;AccountKey={ACCOUNT_KEY}"
    for name, login in (("key", {"account_key": ACCOUNT_KEY}), ("sas", {"sas_token": _SAS}), ("whole", {})):
        storage = {"account_name": "canary", **login} if login else {"connection_string": connection_string}
        yield name, {"enabled": False, "storage": storage, "sources": [{"container": "canary"}]}


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.replace('"', '\\"'))
    yield base64.b64encode(secret.encode()).decode()
    yield base64.urlsafe_b64encode(secret.encode()).decode()
