"""NSG flow logs, version 1 (8 columns) and 2 (13 columns): the decision and, in version 2, the state are separate columns."""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

from libs.common.rows.row_type import WORD
from services.parser.dictionary_columns import recoded
from services.parser.flows.formats.layout import COUNTERS, DIRECTIONS, ENDPOINTS, Columns, FieldKind, TupleLayout
from services.parser.flows.groups import Name, TupleArrays

CATEGORY: Final = "NetworkSecurityGroupFlowEvent"

_DECISIONS = {"A": "allow", "D": "deny"}
_STATES = {"B": "begin", "C": "continuing", "E": "end"}


# Keys on the path to tuples have no default: if one is missing, the tuples may be under a different key.


class InnerFlow(msgspec.Struct, gc=False, kw_only=True):
    """The tuples of one rule at one network interface."""

    mac: Name | None = None
    flowTuples: msgspec.Raw  # noqa: N815 - the log's spelling


class RuleFlow(msgspec.Struct, gc=False, kw_only=True):
    """One rule."""

    rule: Name | None = None
    flows: list[InnerFlow] | None


class Properties(msgspec.Struct, gc=False, kw_only=True):
    """The body of a record."""

    Version: int | None = None
    flows: list[RuleFlow] | None


def collect(body: Properties, record_mac: str | None, group_id: str | None, groups: TupleArrays) -> None:
    """Add the tuple arrays of a record to `groups`, in order. The access control list is the logging security group."""
    for rule_flow in body.flows or ():
        for flow in rule_flow.flows or ():
            groups.rules.append(rule_flow.rule)
            groups.acls.append(group_id)
            groups.macs.append(flow.mac or record_mac)
            groups.tuples.append(flow.flowTuples)


def _coded(fields: Columns) -> dict[str, pa.Array]:
    rows = len(fields["direction"])
    state = fields.get("state")
    return {
        "direction": recoded(fields["direction"], DIRECTIONS),
        "action": recoded(fields["decision"], _DECISIONS),
        "state": pa.nulls(rows, WORD) if state is None else recoded(state, _STATES),
        "encryption": pa.nulls(rows, WORD),
    }


_COMMON = (*ENDPOINTS, ("protocol", FieldKind.PROTOCOL_LETTER), ("direction", FieldKind.WORD), ("decision", FieldKind.WORD))

V1: Final = TupleLayout("NSG version 1", _COMMON, _coded)
V2: Final = TupleLayout("NSG version 2", (*_COMMON, ("state", FieldKind.WORD), *COUNTERS), _coded)

LAYOUTS: Final = {1: V1, 2: V2}
