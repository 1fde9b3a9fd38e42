"""What `blobtide opensearch setup` compares and installs, apart from a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.common.errors import ConfigError
from libs.common.http.client import Answer, Request
from libs.common.settings import Settings
from services.sinks.kinds.elasticsearch.cluster_setup import INDEXED, ClusterSetup, cluster_setup, default_installations
from services.sinks.kinds.elasticsearch.differences import Difference, difference
from services.sinks.kinds.elasticsearch.setup import Absent, Resource, ResourceKind, resources

SEARCH = {"kind": "elasticsearch", "hosts": ["http://a:9200"]}
NO_HANDLER = b'{"error":"no handler found for uri [/_plugins/_ism/policies/x] and method [GET]"}'
POLICY = {"policy": {"default_state": "hot", "states": [{"name": "hot", "actions": [{"rollover": {"min_index_age": "7d"}}]}]}}


class Server:
    """Keeps what is put, and gives it back as servers do: with what they add, and numbers as text in templates."""

    def __init__(self, *, policies: bool = True) -> None:
        self.kept: dict[str, Any] = {}
        self.policies = policies

    def __call__(self, request: Request) -> Answer:
        """Answer as OpenSearch does."""
        path = request.path.partition("?")[0]
        if path == "/":
            return Answer(200, b'{"version":{"distribution":"opensearch","number":"3.8.0"}}')
        if path.startswith("/_plugins") and not self.policies:
            return Answer(400, NO_HANDLER)
        if request.method == "PUT":
            self.kept[path] = json.loads(request.body or b"{}")
            return Answer(200, b"{}")
        return Answer(200, json.dumps(self.returned(path)).encode()) if path in self.kept else Answer(404, b"{}")

    def returned(self, path: str) -> Any:
        """Return what is there in the words of the server."""
        _, kind, name = path.rpartition("/")[0], path.split("/")[1], path.rpartition("/")[2]
        body = self.kept[path]
        match kind:
            case "_index_template":
                extra = {"composed_of": [], "data_stream": {"timestamp_field": {"name": "@timestamp"}}}
                return {"index_templates": [{"name": name, "index_template": body | extra}]}
            case "_plugins":
                policy = {"policy_id": name, "last_updated_time": 1, "schema_version": 21, **body["policy"]}
                return {"_id": name, "_seq_no": 1, "_primary_term": 1, "policy": policy}
            case _:
                return {name: body}


def setup_of(sinks: dict[str, Any], name: str | None = None) -> ClusterSetup:
    """Return the set-up for these sinks."""
    return cluster_setup(Settings.model_validate({"sinks": sinks}), name)


def test_everything_is_new_and_then_nothing_differs() -> None:
    """Policies, templates and data streams are installed in this order; what servers add is no difference."""
    server, wanted = Server(), setup_of({})
    found = [one for one in wanted.apply(server) if isinstance(one, Difference)]
    kinds = [ResourceKind.POLICY, ResourceKind.TEMPLATE, ResourceKind.DATA_STREAM]
    assert [one.resource.kind for one in found] == kinds * len(INDEXED)
    assert all(one.is_new for one in found)
    assert [one.resource.name for one in found[::3]] == [f"blobtide-{rows}" for rows in INDEXED]
    assert list(wanted.differences(server)) == []
    server.kept["/_plugins/_ism/policies/blobtide-spans"]["policy"]["states"][0]["name"] = "warm"
    (changed,) = wanted.differences(server)
    assert isinstance(changed, Difference)
    assert [line for line in changed.lines if line[:2] in {"- ", "+ "}] == [
        '-        "name": "warm",',
        '+        "name": "hot",',
    ]


def test_a_cluster_without_policies_is_told_of_and_gets_the_rest() -> None:
    """It is no difference, since nothing can be done about it from here."""
    server, wanted = Server(policies=False), setup_of({})
    found = list(wanted.apply(server))
    assert sum(isinstance(one, Absent) for one in found) == len(INDEXED)
    assert not [one for one in wanted.differences(server) if isinstance(one, Difference)]


def test_sinks_have_what_their_settings_ask_for() -> None:
    """Rows with a sink in the cluster get its indexes, others a data stream of their own; other clusters do not matter."""
    sinks = {
        "flows": {**SEARCH, "index_prefix": "net"},
        "letters": {**SEARCH, "rows": "dead_letters"},
        "spans": {**SEARCH, "rows": "spans", "data_stream": "ways", "keep_days": 9, "format": "json"},
        "elsewhere": {**SEARCH, "hosts": ["http://b:9200"], "rows": "http"},
        "files": {"kind": "file", "directory": "x"},
    }
    wanted = setup_of(sinks, "letters")
    assert wanted.settings.hosts == ("http://a:9200",)
    found = {one.name: one for one in wanted.installations}
    others = (f"blobtide-{rows}" for rows in ("rollups", "application", "http", "proxy"))
    assert list(found) == ["net", "blobtide-dead-letters", "ways", *others]
    assert found["ways"].lifecycle.keep_days == 9
    assert "parent_span_id" in found["ways"].fields
    assert setup_of(sinks, "elsewhere").installations[0].name == "blobtide-http"


@pytest.mark.parametrize(
    ("sinks", "name", "message"),
    [
        ({}, "search", "no sink search of kind elasticsearch: there is none in the settings"),
        ({"a": SEARCH}, "b", "no sink b of kind elasticsearch: there are a"),
        ({"a": SEARCH, "b": {**SEARCH, "hosts": ["http://b:9200"]}}, None, "a, b write to different clusters: name one"),
        ({"a": SEARCH, "b": {**SEARCH, "keep_days": 3}}, None, "sinks write to blobtide-flows whose settings differ"),
    ],
)
def test_what_is_not_clear_is_refused(sinks: dict[str, Any], name: str | None, message: str) -> None:
    """The message says what is the matter, before anything is asked."""
    with pytest.raises(ConfigError, match=message):
        setup_of(sinks, name)


def test_sinks_that_share_an_index_need_it_once() -> None:
    """Two sinks of the same rows and indexes, for example with different conditions, have one template."""
    names = [one.name for one in setup_of({"a": SEARCH, "b": {**SEARCH, "where": "dst_port = 22"}}).installations]
    assert names == [f"blobtide-{rows}" for rows in ("flows", "rollups", "application", "http", "proxy", "spans")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(403, b"no permissions for [cluster:admin/opendistro/ism]"),
            "answered 403 to a question about the policy x: no per",
        ),
        (Answer(200, b"<html>"), "answer does not describe the policy x"),
        (Answer(200, b'{"other":1}'), "answer does not describe the policy x"),
    ],
)
def test_an_answer_that_says_nothing_is_an_error(answer: Answer, message: str) -> None:
    """Nothing is taken for missing that may be there."""
    with pytest.raises(ConfigError, match=message):
        difference(lambda _: answer, Resource(ResourceKind.POLICY, "x", "/_plugins/_ism/policies/x", POLICY))


def test_elasticsearch_has_policies_of_its_own() -> None:
    """What it adds to a policy, such as ages of phases and the version, is no difference."""
    elasticsearch = Answer(200, b'{"version":{"number":"9.1.0"}}')
    spans = default_installations()["spans"]
    policy, template = resources(lambda _: elasticsearch, spans)
    assert isinstance(policy, Resource)
    assert isinstance(template, Resource)
    assert template.body["template"]["settings"]["index"]["lifecycle"] == {"name": "blobtide-spans"}
    phases = {name: {"min_age": "0ms", **phase} for name, phase in policy.body["policy"]["phases"].items()}
    kept = {"blobtide-spans": {"version": 3, "modified_date": "x", "policy": {**policy.body["policy"], "phases": phases}}}
    assert difference(lambda _: Answer(200, json.dumps(kept).encode()), policy) is None
