"""What ``blobtide sink-setup`` installs: an index template, a policy that ends indexes, a pipeline that records arrival."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
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
Body = dict[str, Any]


class ResourceKind(StrEnum):
    """What can be installed, in the words of messages."""

    PIPELINE = "ingest pipeline"
    LIFECYCLE = "lifecycle policy"  # of Elasticsearch
    POLICY = "policy"  # of OpenSearch
    TEMPLATE = "index template"
    DATA_STREAM = "data stream"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing to install.

    Attributes:
        name: of the thing; `purpose` follows it in messages.
        path: where it is.
        body: what it should be; empty for a data stream, which is made from its template.
        version: query that names the version to be replaced, if that is necessary.
    """

    kind: ResourceKind
    name: str
    path: str
    body: Body = field(default_factory=dict)
    purpose: str = ""
    version: str = ""

    @property
    def title(self) -> str:
        """What it is called, for people."""
        return f"{self.kind} {self.name}{self.purpose}"


@dataclass(frozen=True, slots=True)
class Absent:
    """Something that this cluster cannot have, and need not: why, for people."""

    reason: str


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
    for one in resources(ask, what):
        if isinstance(one, Absent):
            yield one.reason
        else:
            put(ask, one)
            yield f"{one.title} installed"


def resources(ask: Ask, what: Installation) -> Iterator[Resource | Absent]:
    """Yield what there should be, in the order in which it is installed; nothing is written.

    Raises:
        ServerUnreachable, ConfigError: as `install`.
    """
    settings: Body = {}
    if what.arrival is not None:
        yield _pipeline(what.name, what.arrival)
        settings["final_pipeline"] = what.name
    if what.lifecycle.is_needed:
        is_opensearch = _is_opensearch(ask)
        yield _opensearch_policy(ask, what) if is_opensearch else _elasticsearch_policy(what)
        settings |= {} if is_opensearch else elasticsearch_settings(what.lifecycle, what.name)
    yield template_of(what, settings)


def template_of(what: Installation, settings: Body) -> Resource:
    """Return the index template; `settings` are those of its indexes, besides the usual ones."""
    fields = what.fields if what.arrival is None else what.fields | {what.arrival: {"type": "date"}}
    body = template(what.target, fields, what.description)
    body["template"]["settings"]["index"] |= settings
    pattern = what.target.pattern()
    return Resource(ResourceKind.TEMPLATE, what.name, f"/_index_template/{what.name}", body, f" for {pattern}")


def put(ask: Ask, one: Resource) -> None:
    """Write one thing. Raises as `install`."""
    body = json.dumps(one.body).encode() if one.body else None
    answer = ask(Request("PUT", one.path + one.version, body, _JSON if body else {}))
    if answer.status not in _DONE:
        raise ConfigError(f"the cluster answered {answer.status} to the {one.kind}: {excerpt(answer.body)}")


def _pipeline(name: str, arrival: str) -> Resource:
    stamp = {"set": {"field": arrival, "value": "{{_ingest.timestamp}}"}}
    body = {"description": f"Records in {arrival} when a document arrived", "processors": [stamp]}
    return Resource(ResourceKind.PIPELINE, name, f"/_ingest/pipeline/{name}", body)


def _elasticsearch_policy(what: Installation) -> Resource:
    body = elasticsearch_policy(what.lifecycle, what.description)
    return Resource(ResourceKind.LIFECYCLE, what.name, f"/_ilm/policy/{what.name}", body)


def _opensearch_policy(ask: Ask, what: Installation) -> Resource | Absent:
    path = f"/_plugins/_ism/policies/{what.name}"
    found = ask(Request("GET", path))
    if found.status == HTTPStatus.BAD_REQUEST and _NO_HANDLER in found.body:
        lack = "this OpenSearch has no Index State Management (plugin opensearch-index-management)"
        if what.is_lifecycle_chosen:
            raise ConfigError(f"{lack}, which keep_days, rollover_bytes and rollover_days need: install it, or remove them")
        return Absent(f"no policy installed, since {lack}: the data stream will not begin new backing indexes by itself")
    body = opensearch_policy(what.lifecycle, what.description, what.target.pattern())
    return Resource(ResourceKind.POLICY, what.name, path, body, version=_version(found))


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
