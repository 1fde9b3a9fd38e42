"""Rollups: one row sums up the flow tuples of one record that are alike and fall into one window of time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_TIME: Final = pa.timestamp("ms", tz="UTC")
_COUNT: Final = pa.int64()
_NO_DIMENSION: Final = "the aggregation does not have this dimension, or the flow log does not state it"
_NO_SIDE: Final = f"{_NO_DIMENSION}, or the direction is unknown"
_NOT_STATED: Final = "no tuple of the group states it, which is not zero"

MOST_PEERS: Final = 1_024
"""The number of hashes in `peers` at which it becomes an estimate."""
PEER_DIGITS: Final = 8
"""Hex digits of each of these hashes."""

DIMENSIONS: Final = (
    Column("local_ip", pa.string(), "address of the interface that logged the flow", null_means=_NO_SIDE),
    Column("remote_ip", pa.string(), "address of the other side", null_means=_NO_SIDE),
    Column("src_ip", pa.string(), "address of the side that opened the flow", null_means=_NO_DIMENSION),
    Column("dst_ip", pa.string(), "address of the side that the flow was opened to", null_means=_NO_DIMENSION),
    Column("dst_port", pa.uint16(), "port of the service", null_means=_NO_DIMENSION),
    Column("protocol", pa.uint8(), "IANA protocol number", null_means=_NO_DIMENSION),
    Column("direction", WORD, "`inbound` or `outbound`, as the network interface sees it", null_means=_NO_DIMENSION),
    Column("action", WORD, "`allow` or `deny`", null_means=_NO_DIMENSION),
    Column("encryption", WORD, "as in flows", null_means=_NO_DIMENSION),
    Column("rule", WORD, "name of the rule that allowed or denied the flow", null_means=_NO_DIMENSION),
    Column("acl_id", WORD, "as in flows", null_means=_NO_DIMENSION),
    Column("mac", WORD, "MAC address of the interface: 12 upper-case hex digits", null_means=_NO_DIMENSION),
    Column("resource_id", WORD, "resource ID of the flow log (VNet) or of the group (NSG)", null_means=_NO_DIMENSION),
    Column("target_id", WORD, "resource ID of what is logged, such as a virtual network", null_means=_NO_DIMENSION),
)
"""What flows may be grouped by."""

ROLLUPS: Final = RowType(
    name="rollups",
    version=1,
    description=(
        "One row sums up the flow tuples of one record of a flow log that fall into one window and are alike in the dimensions "
        "of an aggregation. It is not the total of the window: that is the [sum over all rows](../../how-to/rollups.md) of the "
        "window, of as many records as there are. So a late record is just another row, and a replay gives the same rows. As "
        "in flows, the source is the side that opened the flow."
    ),
    columns=(
        Column("time", _TIME, "start of the window", nullable=False),
        Column("window_seconds", pa.int32(), "length of the window: 1, 60 or 3600", nullable=False, unit="seconds"),
        Column("aggregation", WORD, "name of the aggregation, as in the settings", nullable=False),
        *DIMENSIONS,
        Column("packets_sent", _COUNT, "packets from source to destination", unit="packets", null_means=_NOT_STATED),
        Column("bytes_sent", _COUNT, "bytes of these packets, headers included", unit="bytes", null_means=_NOT_STATED),
        Column("packets_received", _COUNT, "packets from destination to source", unit="packets", null_means=_NOT_STATED),
        Column("bytes_received", _COUNT, "bytes of these packets, headers included", unit="bytes", null_means=_NOT_STATED),
        Column("flows_begun", _COUNT, "tuples of flows that began and were not denied", nullable=False, unit="flows"),
        Column("flows_continuing", _COUNT, "tuples of flows that went on", nullable=False, unit="flows"),
        Column("flows_ended", _COUNT, "tuples of flows that ended", nullable=False, unit="flows"),
        Column("flows_denied", _COUNT, "tuples of flows that were denied", nullable=False, unit="flows"),
        Column("tuples", _COUNT, "tuples, whatever their state", nullable=False, unit="tuples"),
        Column(
            "peers",
            pa.string(),
            f"hashes of the distinct `remote_ip`, {PEER_DIGITS} hex digits each, ascending; of more than {MOST_PEERS:,} the "
            "smallest, of which their number [can be estimated](../../how-to/rollups.md#peers)",
            null_means="the aggregation does not count peers, or the other side of no tuple is known",
        ),
        Column("first_time", _TIME, "time of the earliest tuple", nullable=False),
        Column("last_time", _TIME, "time of the latest tuple", nullable=False),
        Column("weight", pa.float64(), "how many rows this one stands for: 1 if none were left out", nullable=False),
        Column("source", WORD, "the aggregation, a slash, and the blob that holds the record", nullable=False),
        Column("generation", WORD, "version of the blob's content", nullable=False),
        Column("record_offset", pa.int64(), "offset in the blob of the record", nullable=False, unit="bytes"),
        Column("tuple_index", pa.int32(), "number in its record of the first tuple of the group", nullable=False),
    ),
    topic="rollups",
    more_topics=("rollups_1s", "rollups_1h"),
    time="time",
    position=PositionColumns("source", "generation", "record_offset", "tuple_index"),
    example={
        "time": datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC),
        "window_seconds": 60,
        "aggregation": "network",
        "local_ip": "10.0.0.4",
        "dst_port": 443,
        "protocol": 6,
        "direction": "outbound",
        "action": "allow",
        "target_id": "/subscriptions/.../virtualNetworks/shop",
        "packets_sent": 120,
        "bytes_sent": 18_400,
        "packets_received": 90,
        "bytes_received": 52_100,
        "flows_begun": 7,
        "flows_continuing": 1,
        "flows_ended": 6,
        "flows_denied": 0,
        "tuples": 14,
        "peers": "0b5e2f6a7c19d400",
        "first_time": datetime(2026, 5, 1, 12, 0, 1, 123_000, tzinfo=UTC),
        "last_time": datetime(2026, 5, 1, 12, 0, 58, 7_000, tzinfo=UTC),
        "weight": 1.0,
        "source": "network/shop.prod/insights-logs-flowlogflowevent/m=00/macAddress=00224871C205/PT1H.json",
        "generation": "5b1c0de9a3f47a26",
        "record_offset": 40_960,
        "tuple_index": 17,
    },
)
