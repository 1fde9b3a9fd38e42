"""Whose fault an error from Elasticsearch or OpenSearch is: the document's, or that of the cluster and its operator.

Status 400 does not tell: it is used for a field that cannot be parsed, but also for a missing pipeline, an alias without a
write index and a full shard. The types are those of ``ElasticsearchException`` and its subclasses in both products;
`illegal_argument_exception` can mean anything, so its text decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

_TYPE = re.compile(r"[a-z_]{1,80}")
_FIELD = re.compile(r"field \[([A-Za-z0-9_.@]{1,100})\]")
_TEXT_CHARACTERS: Final = 200
OTHER: Final = "other"

_DOCUMENT: Final = frozenset(
    {
        "mapper_parsing_exception",
        "document_parsing_exception",
        "parsing_exception",
        "parse_exception",
        "strict_dynamic_mapping_exception",
        "x_content_parse_exception",
        "json_parse_exception",
        "input_coercion_exception",
        "number_format_exception",
        "date_time_parse_exception",
        "max_bytes_length_exceeded_exception",
    }
)
_CLUSTER: Final = frozenset(
    {
        "validation_exception",  # too many shards
        "invalid_index_name_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "invalid_alias_name_exception",
        "cluster_block_exception",
        "security_exception",
        "routing_missing_exception",
        "es_rejected_execution_exception",
        "rejected_execution_exception",
        "circuit_breaking_exception",
        "unavailable_shards_exception",
        "process_cluster_event_timeout_exception",
        "node_closed_exception",
        "master_not_discovered_exception",
        "cluster_manager_not_discovered_exception",
        "no_shard_available_action_exception",
        "shard_not_found_exception",
        "illegal_state_exception",
    }
)
# One of the operator's ingest pipelines fails; the text may quote the document.
_PIPELINE: Final = frozenset(
    {
        "script_exception",
        "general_script_exception",
        "ingest_processor_exception",
        "fail_processor_exception",
        "compile_exception",
    }
)
_AMBIGUOUS: Final = "illegal_argument_exception"
_OF_THE_CLUSTER = re.compile(
    r"pipeline|write index|alias|\bshards?\b|number of documents|only write ops|op_type|data stream|total fields|read[- ]only"
    r"|index\.[a-z_.]+|\bnodes?\b|\bscript\b",
    re.IGNORECASE,
)
_OF_THE_DOCUMENT = re.compile(
    r"immense term|mapper \[|field \[|IP string literal|failed to parse|cannot be changed from type|nested documents"
    r"|nested depth|field name|document contains",
    re.IGNORECASE,
)


class Fault(Enum):
    """Who is at fault."""

    DOCUMENT = "document"
    CLUSTER = "cluster"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClusterError:
    """An error reported by a cluster: whose fault it is, its type for a metric (from a bounded set), and the text to show."""

    fault: Fault
    kind: str
    text: str

    @classmethod
    def of(cls, type_: str, reason: str) -> ClusterError:
        """Read an error's type and reason."""
        if not type_:
            return cls(Fault.UNKNOWN, OTHER, "")
        fault = _fault(type_, reason)
        kind = type_ if type_ in _DOCUMENT | _CLUSTER | _PIPELINE | {_AMBIGUOUS} else OTHER
        name = type_ if _TYPE.fullmatch(type_) else "unknown error"
        return cls(fault, kind, name + _shown(fault, type_, reason))


def _fault(type_: str, reason: str) -> Fault:
    if type_ in _DOCUMENT:
        return Fault.DOCUMENT
    if type_ in _CLUSTER or type_ in _PIPELINE:
        return Fault.CLUSTER
    if type_ == _AMBIGUOUS:
        # The document's errors first: their text may quote a field named like a word of the others.
        if _OF_THE_DOCUMENT.search(reason):
            return Fault.DOCUMENT
        if _OF_THE_CLUSTER.search(reason):
            return Fault.CLUSTER
    return Fault.UNKNOWN


def _shown(fault: Fault, type_: str, reason: str) -> str:
    """Return the part of the text that may be shown: for a document's errors only the field, as the rest may quote content."""
    if fault is Fault.CLUSTER and type_ not in _PIPELINE and reason:
        text = "".join(c if c.isprintable() else " " for c in reason)
        return f": {text[:_TEXT_CHARACTERS]}" + ("..." if len(text) > _TEXT_CHARACTERS else "")
    field = _FIELD.search(reason)
    return f" on field {field[1]}" if field else ""
