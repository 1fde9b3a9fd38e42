"""What differs between what a cluster has and what it should have.

Servers return more than they were given, and numbers as text. So of most things only what was given is compared, as text; of
what is in a template, which servers return as it is, everything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import unified_diff
from http import HTTPStatus
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.http.client import Request
from libs.common.security.redaction import excerpt
from services.sinks.kinds.elasticsearch.setup import Ask, Body, Resource, ResourceKind

_RETURNED_WHOLE: Final = "template"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is missing, or not as it should be.

    Attributes:
        lines: of a unified diff of JSON, from what there is to what there should be; empty if there is nothing.
    """

    resource: Resource
    lines: tuple[str, ...]

    @property
    def is_new(self) -> bool:
        """Whether the cluster does not have it at all."""
        return not self.lines


def difference(ask: Ask, wanted: Resource) -> Difference | None:
    """Compare one thing with the cluster's; None if it is there as it should be.

    Raises:
        ServerUnreachable, ConfigError: if the cluster cannot be reached, or does not let us see it.
    """
    found = _found(ask, wanted)
    if found is None:
        return Difference(wanted, ())
    before, after = (_text(_comparable(one, wanted.body)) for one in (found, wanted.body))
    lines = tuple(unified_diff(before, after, "cluster", "blobtide", n=2, lineterm=""))
    return Difference(wanted, lines) if lines else None


def _found(ask: Ask, wanted: Resource) -> Body | None:
    answer = ask(Request("GET", wanted.path))
    if answer.status == HTTPStatus.NOT_FOUND:
        return None
    if answer.status != HTTPStatus.OK:
        said = f"the cluster answered {answer.status} to a question about the {wanted.kind} {wanted.name}"
        raise ConfigError(f"{said}: {excerpt(answer.body)}")
    try:
        return _own(json.loads(answer.body), wanted)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"the cluster's answer does not describe the {wanted.kind} {wanted.name}") from error


def _own(answer: Any, wanted: Resource) -> Body:
    """Return the thing itself, from the answer about it."""
    match wanted.kind:
        case ResourceKind.TEMPLATE:
            return dict(answer["index_templates"][0]["index_template"])
        case ResourceKind.PIPELINE:
            return dict(answer[wanted.name])
        case ResourceKind.LIFECYCLE:
            return {"policy": answer[wanted.name]["policy"]}
        case ResourceKind.POLICY:
            return {"policy": answer["policy"]}
        case ResourceKind.DATA_STREAM:
            return {}


def _comparable(one: Any, wanted: Any, *, whole: bool = False) -> Any:
    """Return what of `one` is compared, with numbers and truth values as text."""
    if isinstance(one, dict) and isinstance(wanted, dict):
        return {
            name: _comparable(value, wanted.get(name), whole=whole or name == _RETURNED_WHOLE)
            for name, value in one.items()
            if whole or name in wanted
        }
    if isinstance(one, list) and isinstance(wanted, list) and len(one) == len(wanted):
        return [_comparable(value, other, whole=whole) for value, other in zip(one, wanted, strict=True)]
    return _plain(one)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _text(body: Any) -> list[str]:
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
