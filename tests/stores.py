"""Read back what sinks wrote into stores: whole rows, as a table of the flow schema with plain strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import pyarrow as pa
import urllib3
from redis import Redis

from libs.common.rows.row_type import WORD
from libs.common.rows.types.flows import FLOW_SCHEMA
from tests.documents import ecs_document

_PAGE = 5_000
_DIRECTIONS: Final = {"ingress": "inbound", "egress": "outbound", "unknown": "other", None: None}
_TEXTS: Final = pa.schema(
    [pa.field(one.name, pa.string()) if one.type == WORD or pa.types.is_timestamp(one.type) else one for one in FLOW_SCHEMA]
)
_PLAIN: Final = pa.schema(
    [pa.field(one.name, pa.string() if one.type == WORD else one.type, nullable=one.nullable) for one in FLOW_SCHEMA]
)


def redis_count(url: str, prefix: str) -> int:
    """Count the entries in the streams under `prefix`."""
    with Redis.from_url(url) as redis:
        return sum(redis.xlen(stream) for stream in _streams(redis, prefix))


def redis_rows(url: str, prefix: str) -> pa.Table:
    """Return every entry in the streams under `prefix`, stream by stream, in the order of each."""
    with Redis.from_url(url) as redis:
        entries = [entry for stream in _streams(redis, prefix) for _, entry in redis.xrange(stream)]
    return rows_table(json.loads(entry[b"flow"]) for entry in entries)


def opensearch_count(url: str, prefix: str) -> int:
    """Count the documents in the indexes under `prefix`; none while one of them is only being made."""
    with urllib3.PoolManager() as http:
        http.request("POST", f"{url}/{prefix}-*/_refresh")
        answer = http.request("GET", f"{url}/{prefix}-*/_count")
    return int(answer.json()["count"]) if answer.status == HTTPStatus.OK else 0


def opensearch_rows(url: str, prefix: str) -> pa.Table:
    """Return every document in the indexes under `prefix`, in no order."""
    return rows_table(map(flow_of, opensearch_documents(url, prefix)))


def rows_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows with times as text as a table of the flow schema with plain strings."""
    found = list(rows)
    unknown = {name for row in found for name in row} - set(_TEXTS.names)
    assert not unknown, f"no columns of a flow batch: {unknown}"
    return pa.Table.from_pylist(found, schema=_TEXTS).cast(_PLAIN)


def flow_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row that an ECS document is made of, times as text.

    Raises:
        AssertionError: if the document says anything else, or less, than follows from the row.
    """
    own, event, network = document["blobtide"], document["event"], document["network"]
    flow, source, target, rule = own.get("flow", {}), document["source"], document["destination"], document.get("rule", {})
    mac = source.get("mac") or target.get("mac")
    row = {
        "time": document["@timestamp"],
        "src_ip": source["ip"],
        "dst_ip": target["ip"],
        "src_port": source["port"],
        "dst_port": target["port"],
        "protocol": int(network["iana_number"]),
        "direction": _DIRECTIONS[network.get("direction")],
        "action": next((word for word, code in (("allow", "allowed"), ("deny", "denied")) if code in event["type"]), None),
        "packets_sent": source.get("packets"),
        "bytes_sent": source.get("bytes"),
        "packets_received": target.get("packets"),
        "bytes_received": target.get("bytes"),
        "rule": rule.get("name"),
        "acl_id": rule.get("ruleset"),
        "mac": mac and mac.replace("-", ""),
        "flow_log_version": flow.get("version"),
        "flow_log_id": flow.get("log_id"),
        **{name: flow.get(name) for name in _SAME_NAME},
        **{name: own[name] for name in ("blob", "generation", "record_offset", "tuple_index")},
    }
    assert ecs_document(_with_integer_times(row)) == document
    return row


_SAME_NAME: Final = ("state", "encryption", "category", "resource_id", "target_id", "system_id", "record_time")


def _with_integer_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as those of `tests.flows` are: milliseconds and nanoseconds."""
    times = {name: row[name] and pa.scalar(row[name]).cast(_PLAIN.field(name).type).value for name in ("time", "record_time")}
    return dict(row) | times


def _streams(redis: Any, prefix: str) -> list[bytes]:
    return sorted(redis.scan_iter(f"{prefix}:*", _type="stream"))


def opensearch_documents(url: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every document in the indexes under `prefix`, in no order."""
    http, indexes = urllib3.PoolManager(), f"{prefix}-*"
    http.request("POST", f"{url}/{indexes}/_refresh")
    query = {"size": _PAGE, "sort": ["_doc"]}
    first = http.request("POST", f"{url}/{indexes}/_search?scroll=1m", json=query)
    assert first.status == HTTPStatus.OK, first.data
    page = first.json()
    while page.get("hits", {}).get("hits"):
        yield from (hit["_source"] for hit in page["hits"]["hits"])
        page = http.request("POST", f"{url}/_search/scroll", json={"scroll": "1m", "scroll_id": page["_scroll_id"]}).json()
