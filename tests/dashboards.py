"""A server that imports saved objects, as a process of its own, and how Kibana reads them: references, fields, aggregations."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from tests import dashboards_process

Body = dict[str, Any]


class LocalDashboards(LocalServer):
    """The process. No package registry has Kibana or OpenSearch Dashboards."""

    name = "dashboards"

    def __init__(self, data_dir: Path, port: int | None = None, *, authorization: str = "") -> None:
        super().__init__(data_dir, port)
        self.authorization = authorization

    @classmethod
    def install(cls) -> None:
        """Nothing to do: it is a script of the tests."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}"

    def kept(self) -> Mapping[str, Body]:
        """Return what was imported, by type and id."""
        with urllib3.PoolManager() as http:
            found: dict[str, Body] = http.request("GET", f"{self.url}/kept").json()
        return found

    def _launch(self) -> Launch:
        argv = (sys.executable, "-I", dashboards_process.__file__, str(self.port), self.authorization)
        return Launch(argv, lambda: accepts(self.port))


@dataclass(frozen=True, slots=True)
class Visualization:
    """What a visualization asks for."""

    title: str
    pattern: str
    query: str
    aggs: Sequence[Body]

    @property
    def fields(self) -> set[str]:
        """The fields by which it divides or sums."""
        return {one["params"]["field"] for one in self.aggs if "field" in one["params"]}

    @property
    def queries(self) -> list[str]:
        """All queries in it."""
        inner = [one["input"]["query"] for agg in self.aggs for one in agg["params"].get("filters", [])]
        return [*filter(None, [self.query]), *inner]

    def request(self) -> Body:
        """Return the search that shows it."""
        metrics = {one["id"]: {"sum": {"field": one["params"]["field"]}} for one in self.aggs if one["type"] == "sum"}
        inner: Body = metrics
        for division in reversed([one for one in self.aggs if one["schema"] != "metric"]):
            inner = {division["id"]: {**_division(division, metrics), "aggs": inner}}
        query: Body = {"query_string": {"query": self.query}} if self.query else {"match_all": {}}
        return {"size": 0, "query": query, "aggs": inner}


def visualizations(content: bytes) -> list[Visualization]:
    """Read a file of saved objects; every reference in it, and nothing else, leads to an object in it."""
    objects = [json.loads(line) for line in content.splitlines()]
    by_key = {(one["type"], one["id"]): one for one in objects}
    assert len(by_key) == len(objects), "an id is there twice"
    for one in objects:
        assert {(other["type"], other["id"]) for other in one["references"]} <= set(by_key)
    (dashboard,) = [one for one in objects if one["type"] == "dashboard"]
    names = [other["name"] for other in dashboard["references"]]
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    assert [panel["panelRefName"] for panel in panels] == names, "each panel has one reference"
    assert len({(panel["gridData"]["x"], panel["gridData"]["y"]) for panel in panels}) == len(panels)
    return [_visualization(by_key["visualization", other["id"]], by_key) for other in dashboard["references"]]


def _visualization(found: Body, by_key: Mapping[tuple[str, str], Body]) -> Visualization:
    attributes = found["attributes"]
    source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    assert source["query"]["language"] == "lucene"
    (reference,) = [one for one in found["references"] if one["name"] == source["indexRefName"]]
    pattern = by_key["index-pattern", reference["id"]]["attributes"]
    assert pattern["timeFieldName"] == "@timestamp"
    aggs = json.loads(attributes["visState"])["aggs"]
    assert len({one["id"] for one in aggs}) == len(aggs)
    return Visualization(attributes["title"], pattern["title"], source["query"]["query"], aggs)


def _division(agg: Body, metrics: Body) -> Body:
    params = agg["params"]
    match agg["type"]:
        case "date_histogram":
            return {"auto_date_histogram": {"field": params["field"], "buckets": 50}}
        case "terms":
            order = params["orderBy"] if params["orderBy"] in metrics else "_count"
            return {"terms": {"field": params["field"], "size": params["size"], "order": {order: params["order"]}}}
        case "filters":
            named = {one["label"]: {"query_string": {"query": one["input"]["query"]}} for one in params["filters"]}
            return {"filters": {"filters": named}}
        case other:
            raise AssertionError(other)


def buckets(found: Body) -> Iterator[Body]:
    """Yield all buckets of an answer, on all levels."""
    for value in found.values():
        if isinstance(value, dict) and "buckets" in value:
            inner = value["buckets"]
            for bucket in inner.values() if isinstance(inner, dict) else inner:
                yield bucket
                yield from buckets(bucket)
