"""The history of resources of Azure: one row is one value that has changed, or a resource that is new or gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_TIME: Final = pa.timestamp("ms", tz="UTC")
_NOT_OF_IT: Final = "a resource of its type has none"
_WHOLE: Final = "the row is about the resource as a whole"

RESOURCE_CHANGES: Final = RowType(
    name="resource_changes",
    version=1,
    description=(
        "One row is one value of a resource of Azure that has changed since the collector saw it before, or a resource that "
        "is new or gone. What has become of one resource at one time is one message. What does not count as a change, such as "
        "`etag`, has no rows."
    ),
    columns=(
        Column("time", _TIME, "when the change was seen, which is after it was made", nullable=False),
        Column("id", pa.string(), "id of the resource as Azure writes it", nullable=False),
        Column("type", WORD, "its type; in lower case if it is gone", nullable=False),
        Column("name", pa.string(), "its name", null_means="the answer does not say"),
        Column("resource_group", WORD, "its resource group, from the id", null_means=_NOT_OF_IT),
        Column("subscription", WORD, "id of its subscription, from the id", null_means=_NOT_OF_IT),
        Column(
            "change",
            WORD,
            "of the resource: `created`, `deleted`, or `unknown` if it has changed, but its former record is not in "
            "`Meta.Resources` any more; of a value: `added`, `removed` or `changed`",
            nullable=False,
        ),
        Column(
            "path",
            pa.string(),
            "where the value is, as a JSON pointer such as `/tags/owner`, in which an element of a list is addressed by its "
            "name; empty if so much has changed that it is compared as a whole",
            null_means=_WHOLE,
        ),
        Column(
            "old",
            pa.string(),
            "former value as JSON, at most its first 8,192 bytes",
            null_means="the value was added, or " + _WHOLE,
        ),
        Column("new", pa.string(), "new value as JSON, likewise", null_means="the value was removed, or " + _WHOLE),
        Column("old_size", pa.int64(), "length of the whole former value as JSON", unit="bytes", null_means="as of `old`"),
        Column("new_size", pa.int64(), "length of the whole new value as JSON", unit="bytes", null_means="as of `new`"),
        Column("old_hash", pa.string(), "`content_hash` of the resource before", null_means="it is new, or `unknown`"),
        Column("new_hash", pa.string(), "`content_hash` of the resource now", null_means="it is gone"),
        Column("api_version", WORD, "version of the API by which the change was seen", nullable=False),
        Column("message_id", WORD, "id of the request that showed it", nullable=False),
        Column("request_index", pa.int32(), "number of the call in that request", nullable=False),
        Column("source", WORD, "topic and partition of the message, as `Meta.ResourceChanges/3`", nullable=False),
        Column(
            "generation", WORD, "Kafka's id of the topic; it changes when the topic is deleted and recreated", nullable=False
        ),
        Column("message_offset", pa.int64(), "offset of the message in its partition", nullable=False),
        Column("change_index", pa.int32(), "number of the row in its message", nullable=False),
    ),
    topic="resource_changes",
    time="time",
    position=PositionColumns("source", "generation", "message_offset", "change_index"),
    example={
        "time": datetime(2026, 5, 1, 12, 0, 1, 250_000, tzinfo=UTC),
        "id": "/subscriptions/0/resourceGroups/shop/providers/Microsoft.Network/networkSecurityGroups/web",
        "type": "Microsoft.Network/networkSecurityGroups",
        "name": "web",
        "resource_group": "shop",
        "subscription": "0",
        "change": "changed",
        "path": "/properties/securityRules/allow-ssh/properties/access",
        "old": '"Deny"',
        "new": '"Allow"',
        "old_size": 6,
        "new_size": 7,
        "old_hash": "0f3c5a9be1d24c6f8a7b6c5d4e3f2a1b",
        "new_hash": "7d1f0c2b3a4958677685940312fedcba",
        "api_version": "2024-05-01",
        "message_id": "nightly:2026-05-01T02:30:00Z",
        "request_index": 3,
        "source": "Meta.ResourceChanges/3",
        "generation": "V3JhcHBlZEluQmxvYnRpZA",
        "message_offset": 88,
        "change_index": 0,
    },
)
