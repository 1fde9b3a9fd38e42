"""Resources of Azure: one row is what a resource looks like since it was seen to have changed, or that it is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_TIME: Final = pa.timestamp("ms", tz="UTC")
_NOT_OF_IT: Final = "a resource of its type has none"

RESOURCES: Final = RowType(
    name="resources",
    version=1,
    description=(
        "One row is a resource of Azure as the collector saw it in a list or by itself: when it is seen for the first time, "
        "when it has changed, and when it is gone. A resource that has not changed is not written again, except rarely to "
        "confirm it. One is gone if a complete list that would have it no longer has it."
    ),
    columns=(
        Column(
            "time", _TIME, "since when it is as it is: when it was seen to be new, different, missing or gone", nullable=False
        ),
        Column(
            "id", pa.string(), "id as Azure writes it; its case does not matter, and keys are in lower case", nullable=False
        ),
        Column(
            "state",
            WORD,
            "`present`, `missing` or `deleted`; missing if a list lacks it, but so much else that it may be hidden",
            nullable=False,
        ),
        Column("type", WORD, "type, such as `Microsoft.Compute/virtualMachines`; in lower case if it is gone", nullable=False),
        Column("name", pa.string(), "name", null_means="the answer does not say"),
        Column("location", WORD, "region", null_means=_NOT_OF_IT),
        Column("resource_group", WORD, "resource group, from the id", null_means=_NOT_OF_IT),
        Column("subscription", WORD, "id of the subscription, from the id", null_means=_NOT_OF_IT),
        Column("tags", pa.string(), "tags as a JSON object", null_means="none, or it is gone"),
        Column("properties", pa.string(), "properties, as JSON as Azure sent them", null_means="none, or it is gone"),
        Column(
            "other",
            pa.string(),
            "other members, such as `sku` and `identity`, as a JSON object",
            null_means="none, or it is gone",
        ),
        Column("api_version", WORD, "version of the API by which it was seen", nullable=False),
        Column("content_hash", pa.string(), "hash of what counts as a change, 32 hex digits", null_means="it is gone"),
        Column("first_seen", _TIME, "when it was seen for the first time since it is there", nullable=False),
        Column(
            "last_seen",
            _TIME,
            "when it was last written as seen; it may have been seen for `collector.refresh_hours` after that",
            nullable=False,
        ),
        Column("source", WORD, "topic and partition of the message, as `Meta.Resources/3`", nullable=False),
        Column(
            "generation", WORD, "Kafka's id of the topic; it changes when the topic is deleted and recreated", nullable=False
        ),
        Column("message_offset", pa.int64(), "offset of the message in its partition", nullable=False),
        Column("message_index", pa.int32(), "always 0: a message is one resource", nullable=False),
    ),
    topic="resources",
    time="time",
    position=PositionColumns("source", "generation", "message_offset", "message_index"),
    keys=("id",),
    document="properties",
    example={
        "time": datetime(2026, 5, 1, 12, 0, 1, 250_000, tzinfo=UTC),
        "id": "/subscriptions/0/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1",
        "state": "present",
        "type": "Microsoft.Compute/virtualMachines",
        "name": "web-1",
        "location": "westeurope",
        "resource_group": "shop",
        "subscription": "0",
        "tags": '{"owner":"team-1"}',
        "properties": '{"hardwareProfile":{"vmSize":"Standard_D2s_v5"}}',
        "other": '{"zones":["1"]}',
        "api_version": "2024-07-01",
        "content_hash": "0f3c5a9be1d24c6f8a7b6c5d4e3f2a1b",
        "first_seen": datetime(2026, 4, 3, 8, 15, tzinfo=UTC),
        "last_seen": datetime(2026, 5, 1, 12, 0, 1, 250_000, tzinfo=UTC),
        "source": "Meta.Resources/3",
        "generation": "V3JhcHBlZEluQmxvYnRpZA",
        "message_offset": 88,
        "message_index": 0,
    },
)
