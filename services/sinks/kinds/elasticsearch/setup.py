"""What ``blobtide sink-setup`` installs: an index template, a policy that ends indexes, a pipeline that records arrival."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.http.client import Answer, Request
from libs.common.security.redaction import excerpt
from services.sinks.kinds.elasticsearch.index import DailyIndexes, DataStream, Fields, template
from services.sinks.kinds.elasticsearch.lifecycle import (
    Lifecycle,
    elasticsearch_policy,
    elasticsearch_settings,
    opensearch_policy,
)

_JSON: Final = {"Content-Type": "application/json"}
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED)
_NO_HANDLER: Final = b"no handler found"

Ask = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed.

    Attributes:
        name: of the template, the policy and the pipeline.
        target: the indexes that they are for.
        fields: the mapped fields.
        description: what the documents are, for people.
        lifecycle: when indexes begin and end.
        is_lifecycle_chosen: whether the operator asked for it; otherwise a cluster without policies is good enough.
        arrival: the field that records when a document arrived; None if none does.
    """

    name: str
    target: DailyIndexes | DataStream
    fields: Fields
    description: str
    lifecycle: Lifecycle
    is_lifecycle_chosen: bool
    arrival: str | None


def install(ask: Ask, what: Installation) -> Iterator[str]:
    """Install or update everything, and yield a phrase a thing. Existing indexes keep their mappings and pipelines.

    Raises:
        ServerUnreachable, ConfigError: if the cluster cannot be reached, or does not allow it.
    """
    settings: dict[str, Any] = {}
    if what.arrival is not None:
        yield _install_pipeline(ask, what.name, what.arrival)
        settings["final_pipeline"] = what.name
    if what.lifecycle.is_needed:
        said, own = _install_policy(ask, what)
        yield said
        settings |= own
    fields = what.fields if what.arrival is None else what.fields | {what.arrival: {"type": "date"}}
    body = template(what.target, fields, what.description)
    body["template"]["settings"]["index"] |= settings
    _put(ask, f"/_index_template/{what.name}", body, "the index template")
    yield f"index template {what.name} for {what.target.pattern()} installed"


def _install_pipeline(ask: Ask, name: str, field: str) -> str:
    stamp = {"set": {"field": field, "value": "{{_ingest.timestamp}}"}}
    body = {"description": f"Records in {field} when a document arrived", "processors": [stamp]}
    _put(ask, f"/_ingest/pipeline/{name}", body, "the ingest pipeline")
    return f"ingest pipeline {name} installed"


def _install_policy(ask: Ask, what: Installation) -> tuple[str, dict[str, Any]]:
    """Install the policy; return what to say, and the settings of indexes that follow it."""
    if not _is_opensearch(ask):
        body = elasticsearch_policy(what.lifecycle, what.description)
        _put(ask, f"/_ilm/policy/{what.name}", body, "the lifecycle policy")
        return f"lifecycle policy {what.name} installed", elasticsearch_settings(what.lifecycle, what.name)
    path = f"/_plugins/_ism/policies/{what.name}"
    body = opensearch_policy(what.lifecycle, what.description, what.target.pattern())
    found = ask(Request("GET", path))
    if found.status == HTTPStatus.BAD_REQUEST and _NO_HANDLER in found.body:
        lack = "this OpenSearch has no Index State Management (plugin opensearch-index-management)"
        if what.is_lifecycle_chosen:
            raise ConfigError(f"{lack}, which keep_days, rollover_bytes and rollover_days need: install it, or remove them")
        return f"no policy installed, since {lack}: the data stream will not begin new backing indexes by itself", {}
    _put(ask, path + _version(found), body, "the policy")
    return f"policy {what.name} installed", {}


def _is_opensearch(ask: Ask) -> bool:
    answer = ask(Request("GET", "/"))
    if answer.status != HTTPStatus.OK:
        raise ConfigError(f"the cluster answered {answer.status} to the question which product it is: {excerpt(answer.body)}")
    try:
        return bool(json.loads(answer.body)["version"].get("distribution") == "opensearch")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError("the answer does not say which product it is: is this Elasticsearch or OpenSearch?") from error


def _version(found: Answer) -> str:
    """Return the query that names the version of the policy to be replaced; ISM refuses to replace it otherwise."""
    if found.status != HTTPStatus.OK:
        return ""
    policy = json.loads(found.body)
    return f"?if_seq_no={int(policy['_seq_no'])}&if_primary_term={int(policy['_primary_term'])}"


def _put(ask: Ask, path: str, body: dict[str, Any], what: str) -> None:
    answer = ask(Request("PUT", path, json.dumps(body).encode(), _JSON))
    if answer.status not in _DONE:
        raise ConfigError(f"the cluster answered {answer.status} to {what}: {excerpt(answer.body)}")
