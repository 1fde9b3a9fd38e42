"""The ``fluent`` sink: rows as records for Fluentd, Fluent Bit or another server of the forward protocol, at least once.

Rows are sent in chunks, packed with MessagePack and compressed, each with an id. A row is written when the server has
acknowledged its chunk. A chunk that was not acknowledged (the server was slow, the connection broke, the process ended) is
sent again, with the same rows under the same id: a chunk has rows of one message of the pipeline, so it does not depend on how
messages are grouped. Servers do not remove duplicates by themselves; a record has the position of its row, by which a later
stage can. A row that is too large, or whose time the protocol cannot express, is reported in the outcome.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Final

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import columns_for
from libs.common.rows.row_type import RowType
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.secrets import read_secret
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.template import Template
from services.sinks.kinds.fluent.chunks import ChunkLimits, ChunkMaker
from services.sinks.kinds.fluent.client import ChunkMessage, ForwardClient, Servers
from services.sinks.kinds.fluent.connection import Access
from services.sinks.kinds.fluent.handshake import Credentials
from services.sinks.kinds.fluent.settings import ENCRYPTED, FluentSettings

KIND: Final = "fluent"
_UNTIMELY: Final = "the time of this row is outside the years that the forward protocol can express (1970 to 2106)"


class FluentSink(Sink):
    """Rows as records."""

    def __init__(self, settings: FluentSettings, row_type: RowType) -> None:
        self._settings = settings
        tag = Template.parse("tag", settings.tag.replace("{rows}", row_type.name), row_type)
        columns = columns_for(settings.format, row_type, settings.shape(row_type))
        limits = ChunkLimits(settings.chunk_rows, settings.chunk_bytes, settings.max_record_bytes)
        self._maker = ChunkMaker(row_type, tag, columns, limits)
        self._client: ForwardClient | None = None
        self._beat: Callable[[], None] = lambda: None

    def read_files(self) -> None:
        """Read the secrets and the TLS files."""
        _servers(self._settings)

    def open(self) -> None:
        """Connect and sign in."""
        self.close()
        client = ForwardClient(_servers(self._settings))
        client.beat = self._beat
        try:
            client.open()
        except Retry as error:
            raise ServerUnreachable(f"{error}; is it running, and are the sink's hosts right?") from error
        self._client = client

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Send all rows, and wait until they are acknowledged."""
        assert self._client is not None, "open first"  # noqa: S101
        rejected: list[RejectedRow] = []
        self._client.deliver(self._messages(parts, rejected))
        self._client.forget()
        return Outcome(sum(part.rows.num_rows for part in parts) - len(rejected), 0, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for acknowledgements."""
        self._beat = beat
        if self._client is not None:
            self._client.beat = beat

    def release(self, shards: Collection[int]) -> None:
        """Forget what was acknowledged: other processes write these shards now."""
        del shards
        if self._client is not None:
            self._client.forget()

    def close(self) -> None:
        """Close the connections; idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _messages(self, parts: Sequence[Part], rejected: list[RejectedRow]) -> Iterator[ChunkMessage]:
        """Yield the chunks of all parts, and add the rows that cannot be sent to `rejected`."""
        for number, part in enumerate(parts):
            untimely = self._maker.untimely(part)
            rejected += (RejectedRow(number, row, ErrorCode.REFUSED, _UNTIMELY) for row in untimely.tolist())
            refuse = partial(self._refuse, rejected, number)
            for chunk in self._maker.chunks(part, untimely, refuse):
                yield chunk.message(self._settings.compression)

    def _refuse(self, rejected: list[RejectedRow], part: int, row: int) -> None:
        reason = f"its record is larger than max_record_bytes ({self._settings.max_record_bytes})"
        rejected.append(RejectedRow(part, row, ErrorCode.TOO_LARGE, reason))


def _servers(settings: FluentSettings) -> Servers:
    """Read the secrets and return the connection parameters. Raises `ConfigError`."""
    key, password = read_secret("shared_key", settings.shared_key, settings.shared_key_file), settings.read_password()
    credentials = None
    if key is not None:
        login = None if settings.username is None or password is None else (settings.username, password)
        credentials = Credentials(settings.hostname or socket.gethostname(), key, login)
        # Only digests are sent, but whoever reads them can try passwords at leisure.
        guard_credentials(KIND, [host for host in settings.hosts if is_plain(host, ENCRYPTED)], settings)
    access = Access(credentials, _tls(settings), settings.timeout_seconds)
    return Servers(settings.hosts, access, settings.connections, settings.in_flight)


def _tls(settings: FluentSettings) -> ssl.SSLContext | None:
    """Return how servers are verified, and our own certificate. Raises `ConfigError`."""
    settings.check_files()
    if not any(host.startswith(f"{ENCRYPTED}:") for host in settings.hosts):
        return None
    try:
        context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"ca_file, cert_file or key_file cannot be used: {type(error).__name__}") from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        note(KIND, Lack.VERIFICATION)
    return context
