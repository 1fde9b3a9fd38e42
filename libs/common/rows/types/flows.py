"""The Arrow schema of a flow batch, version 1. Written down for readers in ``docs/reference/flow-batch.md``.

One row is one flow tuple of an NSG or virtual network flow log. Strings that repeat are dictionary-encoded. A null counter
means that the log did not state it, which is not zero. Counters count what passed since the flow's tuple before.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

FLOW_SCHEMA_VERSION: Final = 1

WORD: Final = pa.dictionary(pa.int32(), pa.string())

FLOW_SCHEMA: Final = pa.schema(
    [
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),  # when the flow was seen; NSG: whole seconds
        pa.field("src_ip", pa.string(), nullable=False),  # of the side that opened the flow
        pa.field("dst_ip", pa.string(), nullable=False),  # of the side that the flow was opened to
        pa.field("src_port", pa.uint16(), nullable=False),  # of `src_ip`
        pa.field("dst_port", pa.uint16(), nullable=False),  # of `dst_ip`: the port of the service
        pa.field("protocol", pa.uint8(), nullable=False),  # IANA number
        pa.field("direction", WORD),  # as the network interface sees it: inbound, outbound; unknown codes as they are
        pa.field("action", WORD),  # allow, deny
        pa.field("state", WORD),  # begin, continuing, end, deny; a denied NSG v2 tuple says begin; null in NSG v1
        pa.field("encryption", WORD),  # X, NX, NX_...; null in NSG
        pa.field("packets_sent", pa.int64()),  # from source to destination
        pa.field("bytes_sent", pa.int64()),  # of these packets, with their headers
        pa.field("packets_received", pa.int64()),  # from destination to source
        pa.field("bytes_received", pa.int64()),  # of these packets, with their headers
        pa.field("rule", WORD),  # name of the rule that allowed or denied the flow
        pa.field("acl_id", WORD),  # VNet: aclID as given; NSG: the group's resource id
        pa.field("mac", WORD),  # of the network interface that logged the flow: 12 upper-case hex digits
        pa.field("category", WORD),  # FlowLogFlowEvent (VNet), NetworkSecurityGroupFlowEvent (NSG)
        pa.field("flow_log_version", pa.uint8()),  # 1, 2 or 4
        pa.field("flow_log_id", WORD),  # flowLogGUID; null in NSG
        pa.field("resource_id", WORD),  # VNet: flowLogResourceID; NSG: resourceId
        pa.field("target_id", WORD),  # targetResourceID; null in NSG
        pa.field("system_id", WORD),  # systemId; null in VNet
        pa.field("record_time", pa.timestamp("ns", tz="UTC")),  # of the record with the tuple; null: no RFC 3339 time
        # Identity: where the tuple stands in its source.
        pa.field("blob", WORD, nullable=False),  # account alias/container/name of the blob that the row comes from
        pa.field("generation", WORD, nullable=False),  # another one after the blob was replaced, shrunk or re-created
        pa.field("record_offset", pa.int64(), nullable=False),  # offset in the blob of the record that holds the tuple
        pa.field("tuple_index", pa.int32(), nullable=False),  # number of the tuple in its record, from 0
    ],
    metadata={"blobtide.schema": "flows", "blobtide.version": str(FLOW_SCHEMA_VERSION)},
)

IDENTITY_COLUMNS: Final = ("blob", "generation", "record_offset", "tuple_index")
