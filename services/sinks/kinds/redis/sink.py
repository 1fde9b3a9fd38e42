"""The ``redis`` sink: rows as JSON in Redis (or Valkey), effectively once; where keys expire, and as messages, at least once.

``streams``: rows become entries in one stream per shard, ``<prefix>:{<shard>}``. Each entry has one field: ``flow``, or ``row``
for rows of other types. A script adds only rows beyond the position of their blob generation (see `script.py`). Positions are
remembered for `remember_days` after the last row and take about 150 bytes of Redis memory per generation.

``keys``: each row becomes a key, ``<prefix>:<identity>``, which is set unless it exists, and is kept for `ttl_seconds`. A row
that comes again after its key has expired is written again.

``pubsub``: each row becomes a message on a channel. Redis keeps no messages: it passes them on to whoever subscribes at that
moment. A row is written when Redis has answered, so one for which nobody listens is lost, and rows are published again after a
failure: at least once for subscribers that stay connected. A message has the position of its row, by which a subscriber can
recognise a repeated one.

In the other modes, rows are only as durable as Redis makes them: use ``appendonly yes``, and ``maxmemory-policy noeviction``,
without which Redis drops entries and positions when memory is short. After a failover, writes that the replica had not received
are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import pyarrow as pa
import structlog
from pydantic import Field, StringConstraints, field_validator, model_validator
from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry as ClientRetry

from libs.common.errors import BlobtideError, ConfigError, Retry, ServerUnreachable
from libs.common.rows.formats.encoders import RowFormat, documents_for
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import RowText
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.common.security.redaction import excerpt
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.address import split_address
from libs.common.settings.login import LoginSettings
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings
from services.sinks.frame.template import Template
from services.sinks.kinds.redis.packing import Packer
from services.sinks.kinds.redis.script import StreamRows, append_once, nowhere

log = structlog.get_logger(__name__)

KIND: Final = "redis"
_SLICES: Final = 2  # of text, about 10 MB: bounds the memory of a write
_CALL_ROWS: Final = 512  # a script runs for a few milliseconds, during which Redis does nothing else
_DAY_SECONDS: Final = 86_400
_REFUSED: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
_PASSING: Final = (
    RedisConnectionError,  # also LOADING
    RedisTimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    AskError,  # also MOVED
    TryAgainError,
    ClusterError,
    RedisClusterException,
)
_PASSING_WORDS: Final = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED", "BEHIND")
_OF_PIPELINE: Final = " of pipeline caused error: "  # the client's text before it quotes the command, and thus a flow

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9:_.-]{0,99}$")]


class Mode(StrEnum):
    """How rows are stored, or passed on."""

    STREAMS = "streams"
    KEYS = "keys"
    PUBSUB = "pubsub"


class RedisSettings(SinkSettings, LoginSettings, TlsSettings):
    """sinks.redis."""

    has_default_user = True

    batch: DocumentBatchSettings = DocumentBatchSettings()
    url: str = Field(default="redis://127.0.0.1:6379/0", description="redis(s)://host[:port][/database]; rediss uses TLS.")
    cluster: bool = Field(default=False, description="Whether the server is a Redis Cluster, which only has database 0.")
    timeout_seconds: float = Field(default=10.0, gt=0, le=50, description="Maximum seconds to wait for a response.")
    mode: Mode = Field(
        default=Mode.STREAMS,
        description="streams: one stream per shard. keys: one key per row. pubsub: one message per row.",
    )
    format: RowFormat = Field(default=RowFormat.JSON, description="Format of a row: json, ecs (flows only) or otel.")
    prefix: Prefix | None = Field(
        default=None, description="Prefix of key names. Default: blobtide:flows; for other rows, the row type replaces flows."
    )
    channel: str = Field(
        default="blobtide:{rows}",
        min_length=1,
        description="pubsub: channel of each message. {column} inserts a column's value, made safe for a name, {rows} the row"
        " type.",
    )
    ttl_seconds: int = Field(default=604_800, ge=0, description="Seconds for which rows are kept; 0: forever.")
    max_entries: int = Field(
        default=0, ge=0, description="streams: approximate maximum size of a stream in entries; 0: no limit."
    )
    remember_days: int = Field(
        default=30, ge=1, le=3_650, description="streams: days without rows after which a blob is forgotten."
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        split_address(url, ("redis", "rediss"), "redis://host[:port][/database], or rediss:// for TLS")
        return url

    @model_validator(mode="after")
    def _cluster_has_one_database(self) -> Self:
        if self.cluster and urlsplit(self.url).path.strip("/") not in {"", "0"}:
            raise ValueError("a cluster only has database 0")
        if self.cluster and self.mode is Mode.PUBSUB:
            raise ValueError("pubsub: give the address of any node, without cluster: it passes messages on to all others")
        return self

    def key_prefix(self, row_type: RowType) -> str:
        """Return the prefix of key names."""
        return self.prefix or f"blobtide:{row_type.name}"

    def memory(self, row_type: RowType) -> str | None:
        """Return where positions are kept; in mode ``keys``, each key is its own record."""
        return f"the prefix {self.key_prefix(row_type)} at {self.url}" if self.mode is Mode.STREAMS else None


class RedisSink(Sink):
    """Rows as entries or keys."""

    def __init__(self, settings: RedisSettings, row_type: RowType) -> None:
        self._settings = settings
        self._json = documents_for(settings.format, row_type, settings.shape(row_type))
        self._prefix = settings.key_prefix(row_type)
        self._script = append_once("flow" if row_type is FLOWS else "row")
        self._channel = Template.parse("channel", settings.channel.replace("{rows}", row_type.name), row_type)
        self._hears = True
        self._client: Any = None
        self._beat: Callable[[], None] = lambda: None

    @property
    def promise(self) -> Promise:
        """Rows that Redis still has are not written again; rows whose keys have expired are. It has no messages at all."""
        if self._settings.mode is Mode.PUBSUB:
            return Promise.TO_WHO_IS_THERE
        expires = self._settings.mode is Mode.KEYS and self._settings.ttl_seconds
        return Promise.AT_LEAST_ONCE if expires else Promise.EFFECTIVELY_ONCE

    def open(self) -> None:
        """Connect, and warn if the server may lose data."""
        self.close()
        try:
            client = _client(self._settings)
            client.ping()
            if self._settings.mode is not Mode.PUBSUB:
                _warn_of_forgetting(client)
        except (RedisError, RedisClusterException) as error:
            failure = _translated(error)
            if isinstance(failure, Retry):
                raise ServerUnreachable(
                    f"{self._settings.url}: {failure}; is Redis running, and is the sink's url correct?"
                ) from error
            raise failure from error
        self._client = client

    def read_files(self) -> None:
        """Read the password and check the TLS files."""
        _options(self._settings)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Add the rows that are not in Redis yet, or publish them."""
        write = {Mode.STREAMS: self._write_stream, Mode.KEYS: self._write_keys, Mode.PUBSUB: self._publish}[self._settings.mode]
        rows = sum(part.rows.num_rows for part in parts)
        try:
            added = sum(write(part) for part in parts)
        except (RedisError, RedisClusterException) as error:
            raise _translated(error) from error
        return Outcome(added, rows - added)

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` after each pipeline."""
        self._beat = beat

    def close(self) -> None:
        """Close connections; idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _write_stream(self, part: Part) -> int:
        settings = self._settings
        stream = f"{self._prefix}:{{{part.shard}}}"
        limits = settings.remember_days * _DAY_SECONDS, settings.max_entries, settings.ttl_seconds
        added = 0
        for calls in self._calls(part):
            pipeline = self._client.pipeline(transaction=False)
            for rows in calls:
                keys = [stream, *(f"{stream}:{generation}" for generation in rows.generations.to_pylist())]
                # Send the text: in a pipeline, it would be too late to learn that the server does not know the script.
                pipeline.execute_command("EVAL", self._script, len(keys), *keys, *limits, *rows.arguments())
            added += sum(pipeline.execute())
            self._beat()
        return added

    def _write_keys(self, part: Part) -> int:
        settings = self._settings
        options = ("NX", "EX", settings.ttl_seconds) if settings.ttl_seconds else ("NX",)
        ids = Identities.of(part.rows, part.row_type.position).document_ids()
        added, start = 0, 0
        for documents in self._documents(part.rows):
            pipeline = self._client.pipeline(transaction=False)
            for row, document in zip(ids.slice(start, len(documents)).to_pylist(), documents.to_pylist(), strict=True):
                pipeline.execute_command("SET", f"{self._prefix}:{row}", document, *options)
            added += sum(answer is not None for answer in pipeline.execute())
            self._beat()
            start += len(documents)
        return added

    def _publish(self, part: Part) -> int:
        channels = self._channel.topics(part.rows)
        names, codes = channels.dictionary.to_pylist(), channels.indices.to_pylist()
        start = 0
        for documents in self._documents(part.rows):
            pipeline = self._client.pipeline(transaction=False)
            for code, document in zip(codes[start : start + len(documents)], documents.to_pylist(), strict=True):
                pipeline.execute_command("PUBLISH", names[code], document)
            self._note_silence(any(pipeline.execute()))
            self._beat()
            start += len(documents)
        return len(codes)

    def _note_silence(self, hears: bool) -> None:  # noqa: FBT001
        """Warn when nobody subscribes any more."""
        if self._hears and not hears:
            log.warning("nobody subscribes to the channel: redis drops what is published", channel=self._channel.example())
        self._hears = hears

    def _documents(self, rows: pa.Table) -> Iterator[pa.Array]:
        """Convert the rows to JSON, a bounded number at a time."""
        return RowText(self._json.text_columns(rows), rows.num_rows).slices()

    def _calls(self, part: Part) -> Iterator[list[StreamRows]]:
        """Divide the rows into calls of the script, a bounded number at a time."""
        identities = Identities.of(part.rows, part.row_type.position)
        reached = nowhere(identities)
        documents = self._documents(part.rows)
        start = 0
        while some := list(islice(documents, _SLICES)):
            calls = []
            for own in (text.slice(first, _CALL_ROWS) for text in some for first in range(0, len(text), _CALL_ROWS)):
                calls.append(StreamRows.of(identities, own, slice(start, start + len(own)), reached))
                start += len(own)
            yield calls


def _client(settings: RedisSettings) -> Any:
    options = _options(settings)
    return RedisCluster.from_url(settings.url, **options) if settings.cluster else Redis.from_url(settings.url, **options)


def _options(settings: RedisSettings) -> dict[str, Any]:
    """Read the password and return the client's connection options. Raises `ConfigError`."""
    options: dict[str, Any] = {
        "username": settings.username,
        "password": settings.read_password(),
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": min(5.0, settings.timeout_seconds),
        # The loop retries. Only a cluster's client needs more attempts, after it has learned where a slot has moved.
        "retry": ClientRetry(NoBackoff(), 3 if settings.cluster else 0),
    }
    if not settings.cluster:  # a cluster's client makes its connections without it
        options["command_packer"] = Packer()
    _guard(settings, signs_in=bool(options["password"]))
    if urlsplit(settings.url).scheme == "rediss":
        settings.check_files()
        options |= {"ssl_cert_reqs": "required" if settings.verify else "none", "ssl_check_hostname": settings.verify}
        files = {"ssl_ca_certs": settings.ca_file, "ssl_certfile": settings.cert_file, "ssl_keyfile": settings.key_file}
        options |= {name: str(file) for name, file in files.items() if file is not None}
    return options


def _guard(settings: RedisSettings, *, signs_in: bool) -> None:
    """Refuse to sign in unencrypted unless it is allowed, and log any protection given up. Raises `ConfigError`."""
    encrypted = urlsplit(settings.url).scheme == "rediss"
    # A cluster refers clients to its other nodes, wherever they are.
    if signs_in and not encrypted and (settings.cluster or is_plain(settings.url, "rediss")):
        guard_credentials(KIND, [settings.url], settings)
    if encrypted and not settings.verify:
        note(KIND, Lack.VERIFICATION)


def _warn_of_forgetting(client: Any) -> None:
    """Warn if the server's configuration lets it lose acknowledged writes; one that we may not inspect is trusted."""
    try:
        persistence, memory = client.info("persistence"), client.info("memory")
    except ResponseError:
        return
    if not persistence.get("aof_enabled"):
        log.warning("redis has no append-only file: a crash loses acknowledged data; set appendonly yes")
    if memory.get("maxmemory_policy", "noeviction") != "noeviction":
        log.warning("redis may evict flows and positions when memory is short; set maxmemory-policy noeviction")


def _translated(error: Exception) -> BlobtideError:
    """Return `Retry` for faults that pass and `ConfigError` for the operator's; anything else is a bug and raised as it is."""
    text = str(error).rpartition(_OF_PIPELINE)[2]
    if isinstance(error, _REFUSED) or isinstance(error.__cause__, _REFUSED):  # a cluster's client hides it
        return ConfigError(f"redis denies the sign-in or the right to write: {type(error).__name__}")
    if isinstance(error, _PASSING) or text.startswith(_PASSING_WORDS):
        return Retry(f"redis: {type(error).__name__}: {excerpt(text, 200)}")
    if text.startswith("WRONGTYPE"):
        return ConfigError("a key with the sink's prefix has another type: give the sink its own prefix")
    raise error
