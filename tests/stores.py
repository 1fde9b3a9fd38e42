"""Read back what sinks wrote into stores: the identities (blob, record offset, tuple index) of all rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import urllib3
from redis import Redis

Identity = tuple[str, int, int]

_PAGE = 5_000


def redis_identities(url: str, prefix: str) -> list[Identity]:
    """Return the identity of every entry in the streams under `prefix`."""
    with Redis.from_url(url) as redis:
        streams = [key for key in redis.scan_iter(f"{prefix}:*") if redis.type(key) == b"stream"]
        entries = [entry for stream in streams for _, entry in redis.xrange(stream)]
    flows = (json.loads(entry[b"flow"]) for entry in entries)
    return [(flow["blob"], flow["record_offset"], flow["tuple_index"]) for flow in flows]


def opensearch_identities(url: str, prefix: str) -> list[Identity]:
    """Return the identity of every document in the indexes under `prefix`."""
    return [(row["blob"], row["record_offset"], row["tuple_index"]) for row in _documents(url, f"{prefix}-*")]


def _documents(url: str, indexes: str) -> Iterator[dict[str, Any]]:
    http = urllib3.PoolManager()
    http.request("POST", f"{url}/{indexes}/_refresh")
    query = {"size": _PAGE, "sort": ["_doc"], "_source": ["blobtide.blob", "blobtide.record_offset", "blobtide.tuple_index"]}
    page = http.request("POST", f"{url}/{indexes}/_search?scroll=1m", json=query).json()
    while page.get("hits", {}).get("hits"):
        yield from (hit["_source"]["blobtide"] for hit in page["hits"]["hits"])
        page = http.request("POST", f"{url}/_search/scroll", json={"scroll": "1m", "scroll_id": page["_scroll_id"]}).json()
