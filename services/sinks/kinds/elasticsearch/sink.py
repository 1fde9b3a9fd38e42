"""The ``elasticsearch`` sink: rows as documents in Elasticsearch or OpenSearch, effectively once.

Flows become documents of the Elastic Common Schema; rows of other types have their columns as fields, with the time as
``@timestamp``.

Documents are created by ``_bulk`` with the row's identity as their id; existing ones are left unchanged. A row goes to the
index of its own day, so a replay finds it there. A cluster that cannot accept documents now delays the sink; a document that
it refuses for good (it does not fit the mapping, is too large, or its day is out of range) is reported in the outcome.
Promise: effectively once with daily indexes; with a data stream, within each of its backing indexes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
import pyarrow as pa
import structlog
from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.authorization import authorization
from libs.common.http.client import Answer, Cluster, HttpClient, Request
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import RowText
from libs.common.rows.row_type import RowType
from libs.common.rows.sampling import SAMPLE_WEIGHT
from libs.common.settings.address import split_address
from libs.common.settings.secrets import read_secret
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.http import HttpTokenSettings
from services.sinks.frame.in_flight import InFlight
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings
from services.sinks.kinds.elasticsearch.bulk import BulkLimits, BulkWriter, Delivered, operation_text
from services.sinks.kinds.elasticsearch.dashboards_server import import_objects
from services.sinks.kinds.elasticsearch.documents import DocumentMaker
from services.sinks.kinds.elasticsearch.index import DailyIndexes, DataStream
from services.sinks.kinds.elasticsearch.lifecycle import Lifecycle
from services.sinks.kinds.elasticsearch.panels import panels_of
from services.sinks.kinds.elasticsearch.saved_objects import Board, saved_objects
from services.sinks.kinds.elasticsearch.setup import Installation, install

log = structlog.get_logger(__name__)

KIND: Final = "elasticsearch"
_SLICES: Final = 4  # of text, about 6 MB of documents: bounds the memory of a write
_OUTSIDE: Final = "the day of this row is outside the range for which indexes are created (past_days)"

_Rows = np.ndarray[Any, np.dtype[np.int64]]
_NO_OPERATIONS: Final = pa.chunked_array([], pa.string())

# A valid index name, short enough to append a date.
IndexName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,199}$")]


class ElasticsearchSettings(SinkSettings, HttpTokenSettings):
    """sinks.elasticsearch. Sign in with at most one of: username and password, api_key, bearer_token."""

    ways_to_sign_in = ("password", "api_key", "bearer_token")

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=("http://127.0.0.1:9200",), min_length=1, description="URLs, used in rotation: a list, or comma-separated."
    )
    api_key: SecretStr | None = Field(default=None, description="API key as id:key, or the same in base64.")
    api_key_file: Path | None = Field(default=None, description="File that holds the API key.")
    bearer_token: SecretStr | None = Field(default=None, description="Token of a service account or a JWT.")
    timeout_seconds: float = Field(default=30.0, gt=0, le=300, description="Maximum seconds to wait for a response.")
    format: RowFormat | None = Field(
        default=None, description="Format of documents: ecs or json. Default: ecs, or json for rows that have no ecs."
    )
    index_prefix: IndexName | None = Field(
        default=None,
        description="Indexes are <prefix>-YYYY.MM.DD by the row's day. Default: blobtide-flows; other rows: their type.",
    )
    data_stream: IndexName | None = Field(default=None, description="Write to this data stream instead of daily indexes.")
    past_days: int = Field(default=3_650, ge=1, le=20_000, description="Maximum age of a row in days; older ones are refused.")
    body_bytes: int = Field(
        default=8_000_000, ge=100_000, le=90_000_000, description="Maximum size of a request, uncompressed."
    )
    in_flight: int = Field(default=2, ge=1, le=16, description="Maximum number of concurrent requests.")
    keep_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which sink-setup's policy deletes an index. 0: never."
    )
    rollover_bytes: int = Field(
        default=32_212_254_720,
        ge=1_048_576,
        description="data_stream: size of a primary shard that begins a new backing index.",
    )
    rollover_days: int = Field(default=30, ge=1, le=3_650, description="data_stream: age that begins a new backing index.")
    record_arrival: bool = Field(
        default=False,
        description="Have sink-setup's ingest pipeline record when a document arrived, as event.ingested or ingested.",
    )
    dashboards_url: str | None = Field(
        default=None,
        description="URL of Kibana or OpenSearch Dashboards, for sink-dashboard; sign-in and TLS are those of hosts.",
    )
    require_template: bool = Field(default=True, description="Refuse to start without the index template from sink-setup.")

    @field_validator("dashboards_url")
    @classmethod
    def _dashboards_have_an_address(cls, url: str | None) -> str | None:
        if url is not None:
            split_address(url, ("http", "https"), "http(s)://host[:port][/path]")
        return url

    @model_validator(mode="after")
    def _only_streams_roll_over(self) -> Self:
        given = sorted({"rollover_bytes", "rollover_days"} & self.model_fields_set)
        if given and self.data_stream is None:
            raise ValueError(f"{given[0]} requires data_stream: a daily index has no successor")
        return self

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the header that signs in; empty without any. Raises `ConfigError`."""
        key = read_secret("api_key", self.api_key, self.api_key_file)
        return super().sign_in() if key is None else authorization(api_key=key)

    def connection(self) -> Cluster:
        """Read the secrets and return the connection parameters. Raises `ConfigError`."""
        return self.cluster(KIND, self.in_flight)

    def dashboards_server(self) -> Cluster:
        """Read the secrets and return how to connect to the server of dashboards. Raises `ConfigError`."""
        if self.dashboards_url is None:
            raise ConfigError(
                "dashboards_url is not set: give the URL of Kibana or OpenSearch Dashboards, or write a file by --output"
            )
        return self.model_copy(update={"hosts": (self.dashboards_url,)}).cluster(f"{KIND} dashboards")


@dataclass(frozen=True, slots=True)
class _Operations:
    """Rows of a part with their operations: operation `i` belongs to row `rows[i]`. Rows outside all bounds have none."""

    part: int
    rows: _Rows
    operations: pa.ChunkedArray
    outside: _Rows


class ElasticsearchSink(Sink):
    """Rows as documents."""

    def __init__(self, settings: ElasticsearchSettings, row_type: RowType, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._row_type = row_type
        self._sleep = sleep
        self._documents = DocumentMaker(settings.format, row_type, settings.shape(row_type), settings.rows_schema(row_type))
        self._prefix = settings.index_prefix or f"blobtide-{row_type.name.replace('_', '-')}"
        self._target = (
            DataStream(settings.data_stream)
            if settings.data_stream is not None
            else DailyIndexes(self._prefix, settings.past_days)
        )
        self._client: HttpClient | None = None
        self._in_flight = InFlight(settings.in_flight, "bulk")

    @property
    def promise(self) -> Promise:
        """Ids are unique only within an index, and only with daily indexes does the row determine the index."""
        return Promise.EFFECTIVELY_ONCE if self._settings.data_stream is None else Promise.AT_LEAST_ONCE

    def open(self) -> None:
        """Sign in and check that the template exists."""
        self.close()
        self._client = HttpClient.checked(self._settings.connection(), self._check_template)
        self._in_flight.open()

    def read_files(self) -> None:
        """Read the secrets and check the TLS files."""
        self._settings.connection()

    def setup(self) -> str:
        """Install or update the index template, and the policy and pipeline; existing indexes keep what they have."""
        client = HttpClient(self._settings.connection())
        try:
            return "; ".join(install(partial(ask, client), self.installation()))
        finally:
            client.close()

    def dashboard(self) -> bytes:
        """Return the dashboard as saved objects, for an import into Kibana or OpenSearch Dashboards."""
        return saved_objects(self._board())

    def install_dashboard(self) -> str:
        """Import the dashboard, in place of an earlier one."""
        board = self._board()
        server = self._settings.dashboards_server()
        count = import_objects(server, saved_objects(board))
        return f"dashboard {board.title!r} imported into {self._settings.dashboards_url}: {count} objects"

    def _board(self) -> Board:
        described = self._documents.described(None if self._settings.sample is None else SAMPLE_WEIGHT)
        pattern, name = self._target.pattern(), self._row_type.name.capitalize().replace("_", " ")
        return Board(f"{name} in {pattern}", pattern, "@timestamp", panels_of(self._row_type, described))

    def installation(self) -> Installation:
        """Return what `setup` installs."""
        settings = self._settings
        is_stream = settings.data_stream is not None
        return Installation(
            name=self._template_name,
            target=self._target,
            fields=self._documents.fields,
            description=f"{self._row_type.name.capitalize().replace('_', ' ')} written by blobtide",
            lifecycle=Lifecycle(is_stream, settings.keep_days, settings.rollover_bytes, settings.rollover_days),
            is_lifecycle_chosen=bool({"keep_days", "rollover_bytes", "rollover_days"} & settings.model_fields_set),
            arrival=self._documents.arrival_field if settings.record_arrival else None,
        )

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Create the documents that do not exist yet."""
        delivered = Delivered()
        rejected: list[RejectedRow] = []
        portions = (portion for number, part in enumerate(parts) for portion in self._portions(number, part.rows))
        writer = self._writer()
        for portion, result in self._in_flight.results(portions, lambda one: writer.write(one.operations)):
            delivered.add(result)
            refused = (*result.refused, *result.unclear)
            rejected += [RejectedRow(portion.part, int(portion.rows[r.row]), r.code, r.reason) for r in refused]
            rejected += [RejectedRow(portion.part, int(row), ErrorCode.REFUSED, _OUTSIDE) for row in portion.outside]
        if self._settings.dead_letter_limit < 1:
            _refuse_to_judge(delivered)
        return Outcome(delivered.written, delivered.already_there, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for responses."""
        self._in_flight.beat = beat

    def close(self) -> None:
        """Close connections; idempotent."""
        self._in_flight.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _portions(self, number: int, table: pa.Table) -> Iterator[_Operations]:
        """Make operations, a bounded number at a time; whatever can be derived once per part is."""
        index = self._target.names(table.column(self._row_type.time).combine_chunks())
        inside = index.is_valid()
        rows = np.flatnonzero(inside.to_numpy(zero_copy_only=False))
        if len(rows) < table.num_rows:
            outside = np.flatnonzero(~inside.to_numpy(zero_copy_only=False))
            yield _Operations(number, rows[:0], _NO_OPERATIONS, outside)
            table, index = table.filter(inside), index.drop_null()
        ids = Identities.of(table, self._row_type.position).text_columns()
        text = RowText(operation_text(index, ids, self._documents.text_columns(table)), len(rows))
        slices = text.slices()
        start = 0
        while operations := list(islice(slices, _SLICES)):
            stop = start + sum(map(len, operations))
            yield _Operations(number, rows[start:stop], pa.chunked_array(operations), rows[:0])
            start = stop

    def _writer(self) -> BulkWriter:
        if self._client is None:
            raise RuntimeError("write before open")
        return BulkWriter(self._client, BulkLimits(self._settings.body_bytes), self._sleep)

    @property
    def _template_name(self) -> str:
        return self._settings.data_stream or self._prefix

    @property
    def _template_path(self) -> str:
        return f"/_index_template/{self._template_name}"

    def _check_template(self, client: HttpClient) -> None:
        answer = ask(client, Request("GET", f"{self._template_path}?filter_path=index_templates.name"))
        asked = ", ".join(self._settings.hosts)
        match answer.status:
            case HTTPStatus.NOT_FOUND if not answer.body.lstrip().startswith(b"{"):
                raise ServerUnreachable(
                    f"{asked} answered 404, but not as Elasticsearch or OpenSearch would; is there a gateway in between?"
                )
            case HTTPStatus.NOT_FOUND if self._settings.require_template:
                raise ConfigError(
                    f"missing index template {self._template_name}: run `blobtide sink-setup NAME` with the name of this"
                    " sink once, or set require_template: false if the mappings come from elsewhere"
                )
            case HTTPStatus.FORBIDDEN:  # the right to write documents does not imply the right to read templates
                log.warning("no permission to check whether the index template exists", template=self._template_name)
            case HTTPStatus.OK | HTTPStatus.NOT_FOUND:
                pass
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
                raise ServerUnreachable(f"{asked} answered {status}; the cluster is not ready")
            case status:
                raise ConfigError(f"{asked} answered {status}: is this Elasticsearch or OpenSearch?")


def _refuse_to_judge(delivered: Delivered) -> None:
    """Blame the cluster for refusals of unknown fault, unless it accepted other documents. Raises `Retry`."""
    if delivered.unclear and not (delivered.written or delivered.already_there or delivered.refused):
        first = delivered.unclear[0]
        raise Retry(
            f"every document is refused, so the cluster is assumed to be at fault: {first.reason}; dead_letter_limit: 1 would"
            " dead-letter them",
            kind=first.kind,
        )


def ask(client: HttpClient, request: Request) -> Answer:
    """Send a request that does not write documents. Raises `ServerUnreachable` or `ConfigError`."""
    try:
        answer = client.send(request)
    except Retry as error:
        raise ServerUnreachable(f"{error}; is the cluster running, and are the sink's hosts correct?") from error
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise ConfigError("the cluster denies the sign-in; check username and password, api_key or bearer_token")
    return answer
