"""What a dashboard shows of each type of rows, by the columns of the rows. Pure; `saved_objects` writes it down.

A panel is left out if a column that it needs is not in the documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.elasticsearch.index import Fields

_TOP: Final = 10
_PLAIN: Final = re.compile(r"[\w.@-]")

_ECS_FLOWS: Final[Mapping[str, str]] = {
    "time": "@timestamp",
    "src_ip": "source.ip",
    "dst_port": "destination.port",
    "bytes_sent": "source.bytes",
    "bytes_received": "destination.bytes",
    "rule": "rule.name",
    "action": "event.type",
}
"""The fields of flows in ECS that panels use."""


class Chart(StrEnum):
    """How a panel looks, in the words of Kibana."""

    BARS = "histogram"
    TABLE = "table"
    PIE = "pie"


@dataclass(frozen=True, slots=True)
class Metric:
    """A number: how many documents, or the sum of a field."""

    label: str
    sum_of: str | None = None


@dataclass(frozen=True, slots=True)
class ByTime:
    """Divides documents by their time."""

    field: str


@dataclass(frozen=True, slots=True)
class ByValue:
    """Divides documents by the most frequent values of a field, or those with the largest first metric."""

    field: str
    label: str
    size: int = _TOP


@dataclass(frozen=True, slots=True)
class ByQuery:
    """Divides documents by the query (in Lucene's language) that they meet, by label."""

    queries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a dashboard.

    Attributes:
        key: distinguishes it within its dashboard.
        query: which documents it is about, in Lucene's language; empty: all.
    """

    key: str
    title: str
    chart: Chart
    metrics: tuple[Metric, ...]
    divided_by: tuple[ByTime | ByValue | ByQuery, ...]
    query: str = ""


@dataclass(frozen=True, slots=True)
class DashboardFields:
    """What a dashboard has to know of the documents.

    Attributes:
        fields: the mapped fields.
        names: the field of each column that is written.
        is_ecs: whether they are in ECS.
        weight: the field by which a document of a sample stands for several rows; None without a sample.
    """

    fields: Fields
    names: Mapping[str, str]
    is_ecs: bool = False
    weight: str | None = None

    @classmethod
    def of_flows_in_ecs(cls, fields: Fields, columns: tuple[str, ...], weight: str | None) -> DashboardFields:
        """Return what is known of flows in ECS with these columns."""
        return cls(
            fields, {column: field for column, field in _ECS_FLOWS.items() if column in columns}, is_ecs=True, weight=weight
        )

    def has(self, *columns: str) -> bool:
        """Return whether all columns are in the documents."""
        return all(column in self.names for column in columns)

    def aggregated(self, column: str) -> str:
        """Return the field by which a column is aggregated: of text, its keyword."""
        name = self.names[column]
        return f"{name}.keyword" if self.fields[name]["type"] == "text" else name

    def where(self, column: str, value: str) -> str:
        """Return the query for documents with a value, which is a plain word, in a column."""
        return f"{_escaped(self.names[column])}:{value}"

    def count(self, label: str) -> Metric:
        """Return how many rows the documents stand for."""
        return Metric(label) if self.weight is None else Metric(f"{label} (estimate)", self.weight)


def panels_of(row_type: RowType, documents: DashboardFields) -> tuple[Panel, ...]:
    """Return the panels of a dashboard for rows of a type.

    Raises:
        ConfigError: if there is none for that type, or none of the columns that it needs is written.
    """
    makers = {FLOWS.name: _of_flows, DEAD_LETTERS.name: _of_dead_letters}
    if row_type.name not in makers:
        raise ConfigError(f"rows: there is a dashboard for {' and '.join(makers)}, but none for {row_type.name}")
    found = tuple(makers[row_type.name](documents)) if documents.has(row_type.time) else ()
    if not found:
        raise ConfigError("columns: a dashboard needs more columns than are written, the time and one to divide rows by")
    return found


def _of_flows(documents: DashboardFields) -> Iterator[Panel]:
    flows, over_time = documents.count("flows"), ByTime(documents.names["time"])
    if documents.has("action"):
        allowed, denied = ("allowed", "denied") if documents.is_ecs else ("allow", "deny")
        is_denied = documents.where("action", denied)
        by_action = ByQuery({"allowed": documents.where("action", allowed), "denied": is_denied})
        yield Panel("over-time", "Flows over time, allowed and denied", Chart.BARS, (flows,), (over_time, by_action))
        if documents.has("dst_port"):
            port = ByValue(documents.aggregated("dst_port"), "port")
            yield Panel("denied-ports", "Most denied ports", Chart.TABLE, (flows,), (port,), is_denied)
        if documents.has("src_ip"):
            source = ByValue(documents.aggregated("src_ip"), "source")
            yield Panel("denied-sources", "Most denied sources", Chart.TABLE, (flows,), (source,), is_denied)
    if documents.has("bytes_sent", "bytes_received"):
        traffic = tuple(
            Metric(label, documents.names[column])
            for label, column in (("bytes sent", "bytes_sent"), ("bytes received", "bytes_received"))
        )
        yield Panel("bytes", "Bytes over time", Chart.BARS, traffic, (over_time,))
        if documents.has("src_ip"):
            source = ByValue(documents.aggregated("src_ip"), "source")
            yield Panel("talkers", "Top talkers", Chart.TABLE, (*traffic, flows), (source,))
        if documents.has("rule"):
            rule = ByValue(documents.aggregated("rule"), "rule")
            yield Panel("rules", "Bytes by rule", Chart.PIE, traffic[:1], (rule,))


def _of_dead_letters(documents: DashboardFields) -> Iterator[Panel]:
    letters, over_time = documents.count("dead letters"), ByTime(documents.names["time"])
    if documents.has("code"):
        code = ByValue(documents.aggregated("code"), "code")
        yield Panel("over-time", "Dead letters over time, by code", Chart.BARS, (letters,), (over_time, code))
        yield Panel("codes", "Dead letters by code", Chart.PIE, (letters,), (code,))
    if documents.has("stage"):
        stage = ByValue(documents.aggregated("stage"), "stage")
        yield Panel("stages", "Who gave up", Chart.TABLE, (letters,), (stage,))
    if documents.has("blob"):
        blob = ByValue(documents.aggregated("blob"), "blob")
        yield Panel("blobs", "Blobs with the most dead letters", Chart.TABLE, (letters,), (blob,))


def _escaped(name: str) -> str:
    return "".join(letter if _PLAIN.match(letter) else f"\\{letter}" for letter in name)
