"""A dashboard as saved objects, one JSON object a line, which Kibana 7.10 or newer and OpenSearch Dashboards import. Pure.

Both have their saved objects from Kibana 7.10, and the versions below are those of its objects: OpenSearch Dashboards still
has them, and newer Kibanas migrate them. Ids follow from the indexes, so an import replaces an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.sinks.kinds.elasticsearch.panels import ByQuery, ByTime, ByValue, Chart, Metric, Panel

_PATTERN_REFERENCE: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
_COLUMNS: Final = 48  # of a dashboard's grid
_WIDTH: Final = 24
_HEIGHT: Final = 15
_VERSIONS: Final = {"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}
_TOOLS: Final = {"addTooltip": True, "addLegend": True, "legendPosition": "right"}

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        title: for people.
        pattern: of the indexes, or the name of the data stream.
        time: the field with the time of a document.
        panels: from left to right and from top to bottom.
    """

    title: str
    pattern: str
    time: str
    panels: Sequence[Panel]

    @property
    def id(self) -> str:
        """The beginning of all ids."""
        return f"blobtide-{self.pattern.removesuffix('-*')}"


def saved_objects(board: Board) -> bytes:
    """Return the file to be imported: the index pattern, a visualization for each panel, and the dashboard."""
    objects = (_pattern(board), *(_visualization(board, panel) for panel in board.panels), _dashboard(board))
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in objects)


def _pattern(board: Board) -> Body:
    return _object("index-pattern", board.id, {"title": board.pattern, "timeFieldName": board.time})


def _visualization(board: Board, panel: Panel) -> Body:
    title = f"{board.title}: {panel.title}"
    state = {"title": title, "type": panel.chart.value, "aggs": _aggregations(panel), "params": _parameters(panel)}
    source = {"query": _lucene(panel.query), "filter": [], "indexRefName": _PATTERN_REFERENCE}
    attributes = {"title": title, "visState": json.dumps(state), "uiStateJSON": "{}", **_search(source)}
    reference = {"name": _PATTERN_REFERENCE, "type": "index-pattern", "id": board.id}
    return _object("visualization", _id(board, panel), attributes, [reference])


def _dashboard(board: Board) -> Body:
    panels = [_placed(number, panel) for number, panel in enumerate(board.panels)]
    references = [
        {"name": f"panel_{number}", "type": "visualization", "id": _id(board, panel)}
        for number, panel in enumerate(board.panels)
    ]
    attributes = {
        "title": board.title,
        "panelsJSON": json.dumps(panels),
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "refreshInterval": {"pause": True, "value": 0},
        **_search({"query": _lucene(""), "filter": []}),
    }
    return _object("dashboard", f"{board.id}-dashboard", attributes, references)


def _placed(number: int, panel: Panel) -> Body:
    row, column = divmod(number * _WIDTH, _COLUMNS)
    place = {"x": column, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT, "i": str(number)}
    shown = {"title": panel.title}
    return {
        "version": "7.10.0",
        "gridData": place,
        "panelIndex": str(number),
        "embeddableConfig": shown,
        "panelRefName": f"panel_{number}",
    }


def _id(board: Board, panel: Panel) -> str:
    return f"{board.id}-{panel.key}"


def _object(kind: str, own_id: str, attributes: Body, references: Sequence[Body] = ()) -> Body:
    described = attributes if kind == "index-pattern" else {"description": "", "version": 1, **attributes}
    return {
        "type": kind,
        "id": own_id,
        "attributes": described,
        "references": list(references),
        "migrationVersion": {kind: _VERSIONS[kind]},
    }


def _search(source: Body) -> Body:
    return {"kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)}}


def _lucene(query: str) -> Body:
    return {"query": query, "language": "lucene"}


def _aggregations(panel: Panel) -> list[Body]:
    metrics = [_metric(str(number), metric) for number, metric in enumerate(panel.metrics, 1)]
    first = len(metrics) + 1
    divisions = [_division(str(number), panel, division) for number, division in enumerate(panel.divided_by, first)]
    return [*metrics, *divisions]


def _metric(number: str, metric: Metric) -> Body:
    field = {} if metric.sum_of is None else {"field": metric.sum_of}
    kind = "count" if metric.sum_of is None else "sum"
    return {"id": number, "enabled": True, "type": kind, "schema": "metric", "params": {**field, "customLabel": metric.label}}


def _division(number: str, panel: Panel, division: ByTime | ByValue | ByQuery) -> Body:
    match division:
        case ByTime(field):
            kind = "date_histogram"
            params: Body = {"field": field, "interval": "auto", "min_doc_count": 1, "extended_bounds": {}}
        case ByValue(field, label, size):
            kind = "terms"
            order = {"orderBy": "1", "order": "desc", "size": size, "otherBucket": False, "missingBucket": False}
            params = {"field": field, "customLabel": label, **order}
        case ByQuery(queries):
            kind = "filters"
            params = {"filters": [{"input": _lucene(query), "label": label} for label, query in queries.items()]}
    return {"id": number, "enabled": True, "type": kind, "schema": _schema(panel, division), "params": params}


def _schema(panel: Panel, division: ByTime | ByValue | ByQuery) -> str:
    """Return what a division is for in a chart: an axis, the colours, or the rows of a table."""
    if panel.chart is Chart.TABLE:
        return "bucket"
    return "segment" if division is panel.divided_by[0] else "group"


def _parameters(panel: Panel) -> Body:
    match panel.chart:
        case Chart.TABLE:
            return {"perPage": 10, "showPartialRows": False, "showMetricsAtAllLevels": False, "showTotal": False}
        case Chart.PIE:
            return {"type": "pie", **_TOOLS, "isDonut": True, "labels": {"show": False, "values": True, "truncate": 100}}
        case Chart.BARS:
            return _bars(panel)


def _bars(panel: Panel) -> Body:
    axis = {"show": True, "style": {}, "labels": {"show": True, "filter": True, "truncate": 100}}
    text = ", ".join(metric.label for metric in panel.metrics)
    below = {"id": "CategoryAxis-1", "type": "category", "position": "bottom", "scale": {"type": "linear"}, "title": {}}
    left = {"id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": "left", "title": {"text": text}}
    shown = {"show": True, "type": "histogram", "mode": "stacked", "valueAxis": "ValueAxis-1"}
    series = [{**shown, "data": {"id": str(number), "label": one.label}} for number, one in enumerate(panel.metrics, 1)]
    return {
        "type": "histogram",
        **_TOOLS,
        "grid": {"categoryLines": False},
        "categoryAxes": [{**axis, **below}],
        "valueAxes": [{**axis, **left, "scale": {"type": "linear", "mode": "normal"}}],
        "seriesParams": series,
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
    }
