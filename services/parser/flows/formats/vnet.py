"""Virtual network flow logs, version 4 (13 columns): one state column also says allowed or denied, followed by encryption.

Records with this nesting but of version 1 or 2 may have NSG columns; the protocol (letter or number) of their first tuple
determines which columns they have.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import pyarrow as pa

from services.parser.dictionary_columns import mapped, recoded
from services.parser.flows.formats import nsg
from services.parser.flows.formats.layout import COUNTERS, DIRECTIONS, ENDPOINTS, Columns, FieldKind, TupleLayout
from services.parser.flows.groups import Name, TupleArrays

CATEGORY: Final = "FlowLogFlowEvent"
VERSION: Final = 4

_STATES = {"B": "begin", "C": "continuing", "E": "end", "D": "deny"}
# Whatever is not denied was allowed; for a state outside the format it is unknown.
_ACTIONS = {"B": "allow", "C": "allow", "E": "allow", "D": "deny"}
_NO_TUPLES = frozenset({b"[]", b"null"})
_LETTER_PROTOCOL = re.compile(rb'\[\s*"(?:[^",]*,){5}[A-Za-z]')


# Keys on the path to tuples have no default: if one is missing, the tuples may be under a different key.


class FlowGroup(msgspec.Struct, gc=False, kw_only=True):
    """The tuples of one rule."""

    rule: Name | None = None
    flowTuples: msgspec.Raw  # noqa: N815 - the log's spelling


class AclFlow(msgspec.Struct, gc=False, kw_only=True):
    """One access control list."""

    aclID: Name | None = None  # noqa: N815 - the log's spelling
    flowGroups: list[FlowGroup] | None  # noqa: N815 - the log's spelling


class FlowRecords(msgspec.Struct, gc=False):
    """The body of a record."""

    flows: list[AclFlow] | None


def collect(body: FlowRecords, record_mac: str | None, groups: TupleArrays) -> None:
    """Add the tuple arrays of a record to `groups`, in order."""
    for acl_flow in body.flows or ():
        for group in acl_flow.flowGroups or ():
            groups.rules.append(group.rule)
            groups.acls.append(acl_flow.aclID)
            groups.macs.append(record_mac)
            groups.tuples.append(group.flowTuples)


def layout_of(body: FlowRecords, version: int | None) -> TupleLayout | None:
    """Return the layout for a record of this version; None if it is unsupported."""
    if version == VERSION:
        return V4
    layout = nsg.LAYOUTS.get(version or 0)
    return layout if layout is None or _LETTER_PROTOCOL.match(_first_tuples(body)) else V4


def _first_tuples(body: FlowRecords) -> bytes:
    arrays = (bytes(group.flowTuples) for flow in body.flows or () for group in flow.flowGroups or ())
    return next((array for array in arrays if array not in _NO_TUPLES), b"")


def _coded(fields: Columns) -> dict[str, pa.Array]:
    states = fields["state"]
    return {
        "direction": recoded(fields["direction"], DIRECTIONS),
        "action": mapped(states, [_ACTIONS.get(state) for state in states.dictionary.to_pylist()]),
        "state": recoded(states, _STATES),
        "encryption": recoded(fields["encryption"], {}),
    }


V4: Final = TupleLayout(
    "VNet version 4",
    (
        *ENDPOINTS,
        ("protocol", FieldKind.PROTOCOL),
        ("direction", FieldKind.WORD),
        ("state", FieldKind.WORD),
        ("encryption", FieldKind.WORD),
        *COUNTERS,
    ),
    _coded,
)
