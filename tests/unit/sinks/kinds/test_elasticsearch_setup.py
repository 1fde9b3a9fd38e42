"""What `sink-setup` sends to Elasticsearch and OpenSearch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.http.client import Answer, Request
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.elasticsearch.index import DailyIndexes, DataStream, ecs_fields
from services.sinks.kinds.elasticsearch.lifecycle import Lifecycle
from services.sinks.kinds.elasticsearch.setup import Installation, install
from services.sinks.kinds.elasticsearch.sink import ElasticsearchSettings

ELASTICSEARCH = b'{"version":{"number":"9.1.0"},"tagline":"You Know, for Search"}'
OPENSEARCH = b'{"version":{"distribution":"opensearch","number":"3.8.0"}}'
NO_HANDLER = b'{"error":"no handler found for uri [/_plugins/_ism/policies/flows] and method [GET]"}'


class Server:
    """Answers as told and keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self.answers = {"GET /": Answer(200, ELASTICSEARCH), **(answers or {})}
        self.bodies: dict[str, Any] = {}

    def __call__(self, request: Request) -> Answer:
        """Answer: 200 to whatever is put, 404 to whatever else is not known."""
        name = f"{request.method} {request.path}"
        if request.body is not None:
            self.bodies[name] = json.loads(request.body)
        return self.answers.get(name, Answer(200 if request.method == "PUT" else 404, b"{}"))


def installation(*, stream: bool, keep_days: int, chosen: bool = True, arrival: str | None = None) -> Installation:
    """Describe what is wanted of a sink of flows."""
    target = DataStream("flows") if stream else DailyIndexes("flows", 10)
    lifecycle = Lifecycle(stream, keep_days, 2**30, 7)
    return Installation("flows", target, ecs_fields(FLOWS), "Flows", lifecycle, chosen, arrival)


def test_without_a_wish_only_the_template_is_installed() -> None:
    """Daily indexes that are kept for ever need nothing else, not even to know the product."""
    server = Server()
    assert list(install(server, installation(stream=False, keep_days=0))) == ["index template flows for flows-* installed"]
    assert list(server.bodies) == ["PUT /_index_template/flows"]
    assert set(server.bodies["PUT /_index_template/flows"]["template"]["settings"]["index"]) == {"codec", "refresh_interval"}


def test_a_daily_index_is_deleted_so_many_days_after_its_own_day() -> None:
    """The day in the name is its origin, so that a replay of old days does not keep them longer."""
    server = Server()
    list(install(server, installation(stream=False, keep_days=90)))
    phases = server.bodies["PUT /_ilm/policy/flows"]["policy"]["phases"]
    assert phases == {"hot": {"actions": {}}, "delete": {"min_age": "90d", "actions": {"delete": {}}}}
    settings = server.bodies["PUT /_index_template/flows"]["template"]["settings"]["index"]
    assert settings["lifecycle"] == {"name": "flows", "parse_origination_date": True}


def test_a_data_stream_rolls_over_by_size_or_age() -> None:
    """It needs no alias, and ends nothing where everything is kept."""
    server = Server()
    list(install(server, installation(stream=True, keep_days=0)))
    phases = server.bodies["PUT /_ilm/policy/flows"]["policy"]["phases"]
    assert phases == {"hot": {"actions": {"rollover": {"max_primary_shard_size": "1073741824b", "max_age": "7d"}}}}
    assert server.bodies["PUT /_index_template/flows"]["template"]["settings"]["index"]["lifecycle"] == {"name": "flows"}


def test_opensearch_gets_a_policy_of_its_own_kind_that_finds_its_indexes() -> None:
    """A policy that is there already is replaced in the version that was read."""
    found = Answer(200, b'{"_id":"flows","_seq_no":7,"_primary_term":2,"policy":{}}')
    server = Server({"GET /": Answer(200, OPENSEARCH), "GET /_plugins/_ism/policies/flows": found})
    assert next(install(server, installation(stream=True, keep_days=30))) == "policy flows installed"
    policy = server.bodies["PUT /_plugins/_ism/policies/flows?if_seq_no=7&if_primary_term=2"]["policy"]
    assert policy["ism_template"] == [{"index_patterns": ["flows"], "priority": 200}]
    assert policy["states"][0]["actions"] == [{"rollover": {"min_primary_shard_size": "1073741824b", "min_index_age": "7d"}}]
    assert policy["states"][0]["transitions"] == [{"state_name": "delete", "conditions": {"min_rollover_age": "30d"}}]


def test_an_opensearch_without_policies_is_good_enough_unless_they_are_asked_for() -> None:
    """What was not asked for is said to be missing; what was is an error."""
    server = Server({"GET /": Answer(200, OPENSEARCH), "GET /_plugins/_ism/policies/flows": Answer(400, NO_HANDLER)})
    said = list(install(server, installation(stream=True, keep_days=0, chosen=False)))
    assert said[0].startswith("no policy installed, since this OpenSearch has no Index State Management")
    assert list(server.bodies) == ["PUT /_index_template/flows"]
    with pytest.raises(ConfigError, match="keep_days, rollover_bytes and rollover_days need"):
        list(install(server, installation(stream=True, keep_days=1)))


def test_arrival_is_recorded_by_a_pipeline_that_the_template_names() -> None:
    """The field is mapped as a date."""
    server = Server()
    said = list(install(server, installation(stream=False, keep_days=0, arrival="event.ingested")))
    assert said[0] == "ingest pipeline flows installed"
    body = server.bodies["PUT /_index_template/flows"]["template"]
    assert body["settings"]["index"]["final_pipeline"] == "flows"
    assert body["mappings"]["properties"]["event"]["properties"]["ingested"] == {"type": "date"}


def test_a_refusal_says_of_what() -> None:
    """The answer's text is part of the message."""
    server = Server({"PUT /_ilm/policy/flows": Answer(403, b"action [cluster:admin/ilm/put] is unauthorized")})
    with pytest.raises(ConfigError, match=r"answered 403 to the lifecycle policy: action \[cluster:admin/ilm/put\]"):
        list(install(server, installation(stream=False, keep_days=1)))
    with pytest.raises(ConfigError, match="which product"):
        list(install(Server({"GET /": Answer(200, b"<html>")}), installation(stream=True, keep_days=1)))


def test_only_a_data_stream_rolls_over() -> None:
    """A setting that would do nothing is refused by name."""
    with pytest.raises(ValidationError, match="rollover_days requires data_stream"):
        ElasticsearchSettings.model_validate({"rollover_days": 3})
