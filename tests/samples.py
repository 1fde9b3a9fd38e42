"""Microsoft's published samples as documents, and the totals that their README states."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SAMPLES: Final = Path(__file__).parent / "data" / "samples"
_COUNTERS: Final = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")


@dataclass(frozen=True, slots=True)
class Totals:
    """How many records and tuples there are, how many rows have which value of a column, and the sums of counters."""

    records: int
    tuples: int
    values: dict[str, dict[object, int]]
    sums: dict[str, int] = field(default_factory=dict)


def _sums(*sums: int) -> dict[str, int]:
    return dict(zip(_COUNTERS, sums, strict=True))


# The last two are one conversation: 9,125 packets and 5,256,000 bytes in both directions together.
TOTALS: Final = {
    "nsg_v1_nested_records": Totals(
        5,
        21,
        {
            "action": {"allow": 15, "deny": 6},
            "protocol": {6: 19, 17: 2},
            "direction": {"inbound": 21},
            **{name: {None: 21} for name in ("state", *_COUNTERS)},
        },
    ),
    "nsg_v1_empty_flows": Totals(1, 40, {"direction": {"inbound": 4, "outbound": 36}}),
    "nsg_v2": Totals(
        2,
        11,
        {"state": {"begin": 8, "continuing": 1, "end": 2}, "action": {"allow": 4, "deny": 7}},
        _sums(46, 25533, 37, 21128),
    ),
    "vnet_v4": Totals(
        1,
        19,
        {"state": {"begin": 5, "deny": 9, "end": 5}, "direction": {"inbound": 9, "outbound": 10}},
        _sums(33, 4528, 44, 43292),
    ),
    "vnet_v4_bare_record": Totals(1, 10, {"action": {"deny": 10}, "direction": {"inbound": 10}}),
    "bandwidth_nsg_v2": Totals(1, 3, {"packets_sent": {None: 1, 1021: 1, 52: 1}}, _sums(1073, 618_048, 8052, 4_637_952)),
    "bandwidth_vnet_v4": Totals(1, 3, {"packets_sent": {None: 1, 1021: 1, 52: 1}}, _sums(1073, 618_048, 8052, 4_637_952)),
}


def document(name: str) -> bytes:
    """Return a sample as it is, or as a document of one record for the tuples of the conversation."""
    if not name.startswith("bandwidth_"):
        return (SAMPLES / f"{name}.json").read_bytes()
    kind = name.removeprefix("bandwidth_")
    example = json.loads((SAMPLES / "bandwidth_examples.json").read_bytes())[kind]
    total = example["expected"]
    sums = TOTALS[name].sums
    assert sums["packets_sent"] + sums["packets_received"] == total["total_packets"]
    assert sums["bytes_sent"] + sums["bytes_received"] == total["total_bytes"]
    record = _nsg_record(example["tuples"]) if kind == "nsg_v2" else _vnet_record(example["tuples"])
    return json.dumps({"records": [record]}).encode()


def _nsg_record(tuples: list[str]) -> dict[str, Any]:
    flows = [{"rule": "r", "flows": [{"mac": "000D3AF87856", "flowTuples": tuples}]}]
    facts = {"time": "2024-02-26T17:11:00Z", "category": "NetworkSecurityGroupFlowEvent", "resourceId": "/NSG"}
    return facts | {"properties": {"Version": 2, "flows": flows}}


def _vnet_record(tuples: list[str]) -> dict[str, Any]:
    flows = [{"aclID": "acl", "flowGroups": [{"rule": "r", "flowTuples": tuples}]}]
    facts = {"time": "2024-02-26T17:11:00Z", "category": "FlowLogFlowEvent", "flowLogVersion": 4}
    return facts | {"macAddress": "000D3AF87856", "flowRecords": {"flows": flows}}
