"""How long indexes live: the policy that ends them, in the words of Elasticsearch (ILM) and of OpenSearch (ISM).

A daily index is as old as the day in its name, so a replay of an old day does not keep it longer. A backing index of a data
stream is as old as its last rollover. Sources: the reference of Elasticsearch, "Index lifecycle actions" and
``index.lifecycle.parse_origination_date``; the documentation of OpenSearch, "Index State Management, policies". ISM has no
age by name: there, a daily index is as old as the index itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_PRIORITY: Final = 200

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When a new backing index begins, and when an old index is deleted.

    Attributes:
        is_stream: whether it is about a data stream, rather than daily indexes, which never roll over.
        keep_days: days after which an index is deleted; 0: never.
        rollover_bytes: size of a primary shard after which a data stream gets a new backing index.
        rollover_days: age after which a data stream gets a new backing index.
    """

    is_stream: bool
    keep_days: int
    rollover_bytes: int
    rollover_days: int

    @property
    def is_needed(self) -> bool:
        """Whether there is anything for a policy to do."""
        return self.is_stream or self.keep_days > 0


def elasticsearch_policy(lifecycle: Lifecycle, description: str) -> Body:
    """Return the body of ``PUT /_ilm/policy/<name>``, for Elasticsearch 7.13 or newer."""
    hot: Body = {}
    if lifecycle.is_stream:
        size, age = f"{lifecycle.rollover_bytes}b", f"{lifecycle.rollover_days}d"
        hot["rollover"] = {"max_primary_shard_size": size, "max_age": age}
    phases: Body = {"hot": {"actions": hot}}
    if lifecycle.keep_days:
        phases["delete"] = {"min_age": f"{lifecycle.keep_days}d", "actions": {"delete": {}}}
    return {"policy": {"_meta": {"description": description}, "phases": phases}}


def elasticsearch_settings(lifecycle: Lifecycle, policy: str) -> Body:
    """Return the settings by which new indexes follow the policy: a part of their template."""
    by_name = {} if lifecycle.is_stream else {"parse_origination_date": True}
    return {"lifecycle": {"name": policy, **by_name}}


def opensearch_policy(lifecycle: Lifecycle, description: str, pattern: str) -> Body:
    """Return the body of ``PUT /_plugins/_ism/policies/<name>``, for OpenSearch 2 or newer; new indexes follow it by name."""
    hot: Body = {"name": "hot", "actions": [], "transitions": []}
    states = [hot]
    if lifecycle.is_stream:
        size, age = f"{lifecycle.rollover_bytes}b", f"{lifecycle.rollover_days}d"
        hot["actions"].append({"rollover": {"min_primary_shard_size": size, "min_index_age": age}})
    if lifecycle.keep_days:
        condition = "min_rollover_age" if lifecycle.is_stream else "min_index_age"
        hot["transitions"].append({"state_name": "delete", "conditions": {condition: f"{lifecycle.keep_days}d"}})
        states.append({"name": "delete", "actions": [{"delete": {}}], "transitions": []})
    return {
        "policy": {
            "description": description,
            "default_state": "hot",
            "states": states,
            "ism_template": [{"index_patterns": [pattern], "priority": _PRIORITY}],
        }
    }
