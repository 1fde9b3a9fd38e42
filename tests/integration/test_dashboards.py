"""Saved dashboards: in a real OpenSearch, their fields are mapped and their charts have content; one command imports them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3
import yaml

from libs.common.errors import ConfigError
from libs.common.http.client import Cluster, Tls
from libs.common.rows.sampling import SAMPLE_WEIGHT
from libs.common.rows.types import ROW_TYPES
from libs.local.opensearch import LocalOpenSearch
from services.cli.main import run
from services.sinks.frame.contract import Part
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.elasticsearch.dashboards_server import import_objects
from tests import row_samples
from tests.dashboards import LocalDashboards, Visualization, buckets, visualizations
from tests.fixtures.servers import serving

OPTIONS: dict[str, dict[str, Any]] = {
    "ecs": {},
    "json": {"format": "json"},
    "renamed": {"format": "json", "rename": {"src_ip": "source.ip", "action": "what happened", "bytes_sent": "out"}},
    "stream": {"data_stream": True},
    "sampled": {"sample": 0.5},
    "letters": {"rows": "dead_letters"},
}


def _options(server: LocalOpenSearch, name: str) -> dict[str, Any]:
    own = OPTIONS[name]
    place = f"board-{name}-{uuid4().hex[:8]}"
    where = {"data_stream": place} if "data_stream" in own else {"index_prefix": place}
    return {"kind": "elasticsearch", "hosts": server.url, **own, **where}


def _filled(options: dict[str, Any]) -> bytes:
    """Install the template, write rows, and return the dashboard."""
    configured = configured_sink({"board": options}, "board")
    row_type = configured.row_type
    rows = row_samples.table(row_type, row_samples.rows(row_type)).unify_dictionaries().combine_chunks()
    if "sample" in options:
        rows = rows.append_column(configured.settings.rows_schema(row_type).field(SAMPLE_WEIGHT), [[2.0] * rows.num_rows])
    sink = configured.sink
    sink.setup()
    sink.open()
    written = sink.write([Part(0, row_type, rows, (rows.num_rows,))])
    sink.close()
    assert (written.written, written.rejected) == (rows.num_rows, ())
    content = sink.dashboard()
    assert content is not None
    return content


@pytest.mark.opensearch
@pytest.mark.parametrize("name", OPTIONS)
def test_every_chart_has_content(name: str, opensearch: LocalOpenSearch) -> None:
    """Every field of a dashboard is in the mapping that sink-setup installs, and every chart shows something."""
    options = _options(opensearch, name)
    found = visualizations(_filled(options))
    pattern = options.get("data_stream") or f"{options['index_prefix']}-*"
    assert {one.pattern for one in found} == {pattern}
    with urllib3.PoolManager() as http:
        http.request("POST", f"{opensearch.url}/{pattern}/_refresh")
        for one in found:
            asked = f"{opensearch.url}/{pattern}/_field_caps?fields={','.join(one.fields)}"
            known = http.request("GET", asked).json()["fields"]
            assert one.fields <= set(known), one.title
            assert all(kind["aggregatable"] for field in one.fields for kind in known[field].values()), one.title
            answer = http.request("POST", f"{opensearch.url}/{pattern}/_search", json=one.request()).json()
            _check_content(one, answer)


def _check_content(one: Visualization, answer: dict[str, Any]) -> None:
    assert "error" not in answer, (one.title, answer)
    assert answer["_shards"]["failed"] == 0, (one.title, answer)
    assert answer["hits"]["total"]["value"] > 0, one.title
    shown = list(buckets(answer["aggregations"]))
    assert any(bucket["doc_count"] for bucket in shown), one.title
    sums = [agg["id"] for agg in one.aggs if agg["type"] == "sum"]
    for number in sums:
        assert any(bucket[number]["value"] > 0 for bucket in shown if number in bucket), one.title
    for agg in (agg for agg in one.aggs if agg["type"] == "filters"):
        labels = [option["label"] for option in agg["params"]["filters"]]
        divided = [bucket[agg["id"]]["buckets"] for bucket in shown if agg["id"] in bucket]
        assert all(any(one[label]["doc_count"] for one in divided) for label in labels), one.title


LOGIN = base64.b64encode(b"writer:secret").decode()


@pytest.fixture
def dashboards(tmp_path: Path) -> Iterator[LocalDashboards]:
    """Give a server that lets one user in."""
    server = LocalDashboards(tmp_path / "dashboards", authorization=f"Basic {LOGIN}")
    with serving(server):
        yield server


def _config(directory: Path, **options: Any) -> str:
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump({"sinks": {"search": {"kind": "elasticsearch", **options}}}))
    return str(file)


def test_one_command_imports_a_dashboard(
    dashboards: LocalDashboards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It signs in as the sink does, says what it has done, and replaces what it imported before."""
    login = {"username": "writer", "password": "secret"}
    config = _config(tmp_path, dashboards_url=f"{dashboards.url}/s/team", **login)
    for _ in range(2):
        assert run(["sink-dashboard", "search", "--config", config]) == 0
        assert "dashboard 'Flows in blobtide-flows-*' imported" in capsys.readouterr().out
    file = tmp_path / "flows.ndjson"
    assert run(["sink-dashboard", "search", "--config", config, "--output", str(file)]) == 0
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert dashboards.kept() == {f"{one['type']}:{one['id']}": one for one in written}


def test_what_goes_wrong_at_an_import_is_said(
    dashboards: LocalDashboards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sign-in that is denied, another server, and one that is down each have a reason and an exit code, and no secret."""
    wrong = {"username": "writer", "password": "wr0ng-secret"}
    assert run(["sink-dashboard", "search", "--config", _config(tmp_path, dashboards_url=dashboards.url, **wrong)]) == 2
    assert "answered 401" in (said := capsys.readouterr().err)
    assert "wr0ng-secret" not in said
    right = {"username": "writer", "password": "secret"}
    elsewhere = _config(tmp_path, dashboards_url=f"{dashboards.url}/elsewhere", **right)
    assert run(["sink-dashboard", "search", "--config", elsewhere]) == 2
    assert "is dashboards_url that of Kibana or OpenSearch Dashboards" in capsys.readouterr().err
    dashboards.kill()
    assert run(["sink-dashboard", "search", "--config", elsewhere]) == 3
    assert "is the server running" in capsys.readouterr().err


def test_an_object_that_is_refused_is_named(dashboards: LocalDashboards) -> None:
    """An import of which a part is refused is a failure, although the server answers 200."""
    content = configured_sink({"search": {"kind": "elasticsearch"}}, "search").sink.dashboard() or b""
    without_pattern = content[content.index(b"\n") + 1 :]
    server = Cluster((dashboards.url,), {"Authorization": f"Basic {LOGIN}"}, Tls(), 10.0, 1)
    with pytest.raises(ConfigError, match=r"refused a part of the dashboard.*missing_references"):
        import_objects(server, without_pattern)
    assert not dashboards.kept()


def test_every_row_type_has_a_dashboard_or_a_reason() -> None:
    """Of a type without a dashboard, the command says which types have one."""
    for name in ROW_TYPES:
        sink = configured_sink({"search": {"kind": "elasticsearch", "rows": name}}, "search").sink
        if name in {"flows", "dead_letters"}:
            assert visualizations(sink.dashboard() or b"")
        else:
            with pytest.raises(ConfigError, match=f"none for {name}"):
                sink.dashboard()


def test_a_sign_in_is_not_sent_unencrypted() -> None:
    """What protects the sign-in to the cluster protects it on the way to the server of dashboards as well."""
    options = {"kind": "elasticsearch", "hosts": "https://search:9200", "api_key": "id:key"}
    sink = configured_sink({"search": {**options, "dashboards_url": "http://kibana.example:5601"}}, "search").sink
    with pytest.raises(ConfigError, match="allow_plaintext_credentials"):
        sink.install_dashboard()
