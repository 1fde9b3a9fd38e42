"""The maximum size of a record for a topic: the smaller of the topic's limit and our own.

Kafka is asked for it at the start, and again after it refuses a record for its size, since the limit may have been changed. If
we lack the right to describe topics, refusals are the only hint: each one halves the limit. Records are made to fit before
compression, so that they fit however well they compress.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from msgspec.structs import replace

from libs.common.errors import ConfigError
from libs.common.kafka.client.configs import Config, SilentLog, admin_config, make_client
from libs.common.kafka.records import Outbound
from libs.common.messages.dead_letters import OMITTED_BYTES, stage_and_code
from libs.common.messages.headers import Headers
from libs.common.settings.kafka import KEY_AND_HEADERS_BYTES, KafkaSettings

log = structlog.get_logger(__name__)

# Has room for every event and, besides key and headers, for a flow batch of one row, whose schema alone is 7 KB.
SMALLEST: Final = 2 * KEY_AND_HEADERS_BYTES

_ANSWER_SECONDS: Final = 5.0
_CONFIGS: Final = ("max.message.bytes", "segment.bytes")  # a batch must also fit into a segment of the log
_RECORD_BYTES: Final = 512  # overhead of a record and its batch, besides key, value and headers
_HEADER_BYTES: Final = 10  # overhead of a header, besides name and value
_USUAL_BATCH: Final = 1_000_000  # the client's own default
_OMITTED: Final = f"source-{OMITTED_BYTES}"
_OMITTED_HEADERS: Final = "source-omitted-headers"


def told_limits(kafka: KafkaSettings, topics: Collection[str]) -> dict[str, int]:
    """Return the size of the largest message for each topic, as far as Kafka reports it."""
    if not topics:
        return {}
    admin = make_client(AdminClient, admin_config(kafka), SilentLog("limits"))
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in sorted(topics)]
    found = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_ANSWER_SECONDS).items():
        try:
            entries = future.result(2 * _ANSWER_SECONDS)
        except (KafkaException, TimeoutError):
            continue  # no right, no such topic, or no Kafka: those who need the topic report it
        numbers = [int(entries[name].value) for name in _CONFIGS if name in entries and str(entries[name].value).isdigit()]
        if numbers:
            found[resource.name] = min(numbers)
    return found


class TopicLimits:
    """The limits of `topics`; those of other topics are learned from refusals. Kafka is not asked before `read`.

    Belongs to the thread that writes; other threads may call `room`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Collection[str] = (),
        ask: Callable[[Collection[str]], Mapping[str, int]] | None = None,
    ) -> None:
        self._own = kafka.largest_message
        self._ask = ask or partial(told_limits, kafka)
        self._limits = dict.fromkeys(topics, self._own)

    def room(self, topic: str) -> int:
        """Return the maximum size of a value for `topic` that leaves room for key and headers."""
        return self._limit(topic) - KEY_AND_HEADERS_BYTES

    def read(self) -> None:
        """Ask Kafka for the limits. Those that it does not report stay as they are.

        Raises:
            ConfigError: if the limit of a topic is too small.
        """
        for topic, limit in self._ask(tuple(self._limits)).items():
            self._set(topic, min(self._limit(topic), limit))

    def refused(self, topics: Collection[str]) -> None:
        """Note that a record for each of `topics` was refused for its size, and lower their limits.

        Raises:
            ConfigError: a topic takes too little to be of use.
        """
        told = self._ask({*self._limits, *topics})
        for topic in topics:
            before = self._limit(topic)
            limit = told.get(topic, before)
            self._set(topic, limit if limit < before else before // 2)
            log.warning(
                "Kafka refused records because of their size; cutting them smaller from now on",
                topic=topic,
                before_bytes=before,
                now_bytes=self._limit(topic),
                reason="the topic's max.message.bytes was lowered" if limit < before else "Kafka does not reveal the limit",
            )

    def takes(self, record: Outbound) -> bool:
        """Return whether `record` by itself is small enough, as far as the limits are known."""
        return _weight(record) <= self._limit(record.topic) - _RECORD_BYTES

    def fitted(self, record: Outbound) -> Outbound:
        """Return `record`; a dead letter that is too large for its topic is cut to fit, but keeps position and reason."""
        if stage_and_code(record.headers) is None or self.takes(record):
            return record
        return _cut(record, self._limit(record.topic) - _RECORD_BYTES)

    def config(self, config: Config) -> Config:
        """Return a producer's `config` with batches small enough for every topic: the client sends records in batches."""
        usual = int(config.get("batch.size", _USUAL_BATCH))
        return {**config, "batch.size": min([usual, *self._limits.values()])}

    def _limit(self, topic: str) -> int:
        return self._limits.get(topic, self._own)

    def _set(self, topic: str, limit: int) -> None:
        if limit < SMALLEST:
            raise ConfigError(
                f"topic {topic} accepts messages of at most {limit} bytes, which is too small: set its "
                f"max.message.bytes to {SMALLEST} or more (`blobtide topics apply` sets what deploy/topics.yaml declares)"
            )
        self._limits[topic] = limit


def _weight(record: Outbound) -> int:
    own = len(record.value or b"") + len(record.key or b"")
    return own + sum(len(name) + len(value) + _HEADER_BYTES for name, value in record.headers)


def _cut(letter: Outbound, most: int) -> Outbound:
    """Return `letter` cut to fit: with the beginning of its value, and without original headers or key if they are too big."""
    bare = replace(letter, value=None)
    if _weight(bare) > most // 2:  # the original message had larger headers than any of ours
        kept = tuple(header for header in letter.headers if not header[0].startswith("original-"))
        dropped = len(letter.headers) - len(kept)
        bare = replace(bare, headers=(*kept, (_OMITTED_HEADERS, str(dropped).encode())))
    if _weight(bare) > most // 2:
        bare = replace(bare, key=None)
    value = bytes(letter.value or b"")
    kept_value = value[: max(0, most - _weight(bare) - len(_OMITTED) - 2 * _HEADER_BYTES)]
    return replace(bare, value=kept_value, headers=_with_omitted(bare.headers, len(value) - len(kept_value)))


def _with_omitted(headers: Headers, count: int) -> Headers:
    """Add `count` to the stated number of omitted bytes."""
    before = int(dict(headers).get(_OMITTED, b"0"))
    if not before + count:
        return headers
    others = tuple(header for header in headers if header[0] != _OMITTED)
    return (*others, (_OMITTED, str(before + count).encode()))
