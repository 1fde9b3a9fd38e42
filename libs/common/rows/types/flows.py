"""Flows: one row is one flow tuple of an NSG or virtual network flow log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_NOT_STATED: Final = "the log does not state it, which is not zero"
_NOT_NSG: Final = "an NSG flow log"
_NOT_GIVEN: Final = "the record does not give it"

FLOWS: Final = RowType(
    name="flows",
    version=1,
    description=(
        "One row is one flow tuple of an NSG or virtual network flow log. Source is the side that opened the flow, whichever "
        "of the two logged it. Counters count what has passed since the previous tuple of the same flow, so a flow's total is "
        "their sum."
    ),
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when the flow was seen; NSG: whole seconds", nullable=False),
        Column("src_ip", pa.string(), "address of the side that opened the flow", nullable=False),
        Column("dst_ip", pa.string(), "address of the side that the flow was opened to", nullable=False),
        Column("src_port", pa.uint16(), "port of `src_ip`", nullable=False),
        Column("dst_port", pa.uint16(), "port of `dst_ip`: the port of the service", nullable=False),
        Column("protocol", pa.uint8(), "IANA protocol number", nullable=False),
        Column(
            "direction",
            WORD,
            "`inbound` or `outbound`, as the network interface sees it; an unknown code is kept as it is",
            null_means=_NOT_GIVEN,
        ),
        Column("action", WORD, "`allow` or `deny`", null_means=_NOT_GIVEN),
        Column(
            "state", WORD, "`begin`, `continuing`, `end` or `deny`; a denied NSG v2 tuple says `begin`", null_means="NSG v1"
        ),
        Column("encryption", WORD, "`X` (encrypted), `NX` or `NX_...` (not encrypted, and why)", null_means=_NOT_NSG),
        Column("packets_sent", pa.int64(), "packets from source to destination", unit="packets", null_means=_NOT_STATED),
        Column("bytes_sent", pa.int64(), "bytes of these packets, headers included", unit="bytes", null_means=_NOT_STATED),
        Column("packets_received", pa.int64(), "packets from destination to source", unit="packets", null_means=_NOT_STATED),
        Column("bytes_received", pa.int64(), "bytes of these packets, headers included", unit="bytes", null_means=_NOT_STATED),
        Column("rule", WORD, "name of the rule that allowed or denied the flow", null_means=_NOT_GIVEN),
        Column("acl_id", WORD, "VNet: `aclID` as given; NSG: resource ID of the group", null_means=_NOT_GIVEN),
        Column(
            "mac",
            WORD,
            "MAC address of the network interface that logged the flow: 12 upper-case hex digits",
            null_means=_NOT_GIVEN,
        ),
        Column("category", WORD, "`FlowLogFlowEvent` (VNet) or `NetworkSecurityGroupFlowEvent` (NSG)", null_means=_NOT_GIVEN),
        Column("flow_log_version", pa.uint8(), "version of the log's format: 1, 2 or 4", null_means=_NOT_GIVEN),
        Column("flow_log_id", WORD, "`flowLogGUID` of the record", null_means=_NOT_NSG),
        Column("resource_id", WORD, "VNet: `flowLogResourceID`; NSG: `resourceId`", null_means=_NOT_GIVEN),
        Column("target_id", WORD, "`targetResourceID` of the record", null_means=_NOT_NSG),
        Column("system_id", WORD, "`systemId` of the record", null_means="a VNet flow log"),
        Column(
            "record_time",
            pa.timestamp("ns", tz="UTC"),
            "time of the record that holds the tuple",
            null_means="the record has no RFC 3339 time",
        ),
        Column("blob", WORD, "blob that holds the tuple: account alias/container/name", nullable=False),
        Column(
            "generation",
            WORD,
            "version of the blob's content; it changes when the blob is replaced, shrunk or re-created",
            nullable=False,
        ),
        Column(
            "record_offset", pa.int64(), "offset in the blob of the record that holds the tuple", nullable=False, unit="bytes"
        ),
        Column("tuple_index", pa.int32(), "number of the tuple in its record, from 0", nullable=False),
    ),
    topic="flows",
    time="time",
    position=PositionColumns("blob", "generation", "record_offset", "tuple_index"),
    example={
        "time": datetime(2026, 5, 1, 12, 0, 1, 123_000, tzinfo=UTC),
        "src_ip": "10.0.0.4",
        "dst_ip": "10.1.0.9",
        "src_port": 50_312,
        "dst_port": 443,
        "protocol": 6,
        "direction": "outbound",
        "action": "allow",
        "state": "end",
        "encryption": "NX",
        "packets_sent": 12,
        "bytes_sent": 1_840,
        "packets_received": 9,
        "bytes_received": 5_210,
        "rule": "AllowVnetOutBound",
        "acl_id": "f8c2a6d0-3a57-4c0b-9d35-8d1d7f0a2b11",
        "mac": "00224871C205",
        "category": "FlowLogFlowEvent",
        "flow_log_version": 4,
        "flow_log_id": "66aa66aa-bb77-cc88-dd99-00ee00ee00ee",
        "resource_id": "/SUBSCRIPTIONS/.../FLOWLOGS/SHOP",
        "target_id": "/subscriptions/.../virtualNetworks/shop",
        "record_time": datetime(2026, 5, 1, 12, 1, 0, tzinfo=UTC),
        "blob": "shop.prod/insights-logs-flowlogflowevent/m=00/macAddress=00224871C205/PT1H.json",
        "generation": "5b1c0de9a3f47a26",
        "record_offset": 40_960,
        "tuple_index": 17,
    },
)

FLOW_SCHEMA: Final = FLOWS.schema
