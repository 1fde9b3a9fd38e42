"""ClickHouse over HTTP: queries that return rows as JSON, and inserts of unchanged Arrow data.

Settings are sent with every request, so that the meaning of an insert does not depend on the server's defaults or the user's
profile. Nothing is compressed: Arrow's columns are sent as they are in memory. Any request may be repeated, since inserts carry
a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import pyarrow as pa

from libs.common.http.client import Answer, HttpClient, Request
from services.sinks.kinds.clickhouse.faults import ClickHouseFault, ServerError

_ALWAYS: Final = {"wait_end_of_query": "1"}  # a late error still sets the status
_INSERT: Final = {
    "async_insert": "0",  # a response means that the rows are stored; newer servers have other defaults
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",  # a repeated insert reaches views that the first did not reach
    "input_format_null_as_default": "0",  # do not replace nulls by defaults in columns that are not nullable
    "input_format_arrow_allow_missing_columns": "0",
    "max_partitions_per_insert_block": "0",  # a batch of old rows may cover any number of days
    # One block, and thus one part per day, whatever the server's defaults: a day's rows are stored completely or not at all.
    "max_insert_block_size": "1048449",
    "min_insert_block_size_rows": "1048449",
    "min_insert_block_size_bytes": "0",
}
_QUERY: Final = {
    "output_format_json_quote_64bit_integers": "0",
    "output_format_arrow_string_as_string": "1",
    "output_format_arrow_low_cardinality_as_dictionary": "0",
    "max_query_size": "16777216",
}
MOST_ROWS: Final = 1_000_000
"""Maximum number of rows in an insert, so that it is one block."""


class InsertRefused(Exception):
    """The server refused an insert because of its rows, without saying which ones."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.refusal[1])
        self.error = error


class ClickHouse:
    """A client of one server, or of several equivalent ones."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Run a query that returns few rows; each is a mapping by column.

        Raises:
            Retry, ConfigError: as `execute`.
        """
        body = self._send({**_QUERY, "default_format": "JSONEachRow"}, sql.encode())
        return [json.loads(line) for line in body.splitlines()]

    def columns(self, sql: str) -> pa.Table:
        """Run a query that returns many rows. Raises as `execute` does."""
        body = self._send({**_QUERY, "default_format": "ArrowStream"}, sql.encode())
        with pa.ipc.open_stream(body) as stream:
            return stream.read_all()

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing.

        Raises:
            Retry: if the server does not respond or cannot do it now.
            ConfigError: if names, rights or settings are wrong.
        """
        self._send({}, sql.encode())

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert at most `MOST_ROWS` rows into the columns with the same names; returns when they are durable.

        `table` must be quoted. An insert with a token that the table has seen recently changes nothing.

        Raises:
            InsertRefused: if the server does not accept all of the rows; none of them is stored, or only those of some days.
            Retry, ConfigError: as `execute`. After `Retry`, the rows may be stored.
        """
        names = ", ".join(map(quoted, rows.column_names))
        sql = f"INSERT INTO {table} ({names}) FORMAT ArrowStream"
        self._send({**_INSERT, "query": sql, "insert_deduplication_token": token}, _stream(rows))

    def _send(self, parameters: Mapping[str, str], body: bytes) -> bytes:
        path = f"/?{urlencode({**_ALWAYS, **parameters})}"
        answer: Answer = self._http.send(Request("POST", path, body, {"Content-Type": "application/octet-stream"}))
        if answer.status == HTTPStatus.OK:
            return answer.body
        error = ServerError.of(answer)
        if "query" in parameters and error.fault is ClickHouseFault.ROWS:
            raise InsertRefused(error)
        raise error.exception()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def quoted(name: str) -> str:
    """Return a name as a SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def text(value: str) -> str:
    """Return a text as a SQL literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _stream(rows: pa.Table) -> bytes:
    """Return rows as an Arrow stream with one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema.remove_metadata()) as stream:
        stream.write_table(rows.unify_dictionaries().combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return body
