"""Dead letters as rows: each message of ``Errors`` is a row, so that dead letters can be stored and queried like other data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_NOT_FROM_KAFKA: Final = "the record did not come from a Kafka message, or its message is not known"
_NOT_FROM_A_BLOB: Final = "not known, or the record does not come from a blob"

DEAD_LETTERS: Final = RowType(
    name="dead_letters",
    version=1,
    description=(
        "One row is one dead letter: a record that a service could not process, with the reason, its position and its original "
        "bytes. A record that a sink refused is given as the JSON document of its row. A sink of dead letters skips "
        "those it caused itself; otherwise a row refused by its destination would circulate forever."
    ),
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when the dead letter was written", nullable=False),
        Column(
            "stage",
            WORD,
            "who gave up: `blob_monitor`, `ingest`, `parser`, `aggregator`, `recorder`, `sink.NAME`",
            nullable=False,
        ),
        Column("code", WORD, "[error code](../error-codes.md)", nullable=False),
        Column("reason", pa.string(), "what is wrong, in a sentence, without secrets", null_means="the letter gives no reason"),
        Column("topic", WORD, "topic of the message that held the record", null_means=_NOT_FROM_KAFKA),
        Column("partition", pa.int32(), "its partition", null_means=_NOT_FROM_KAFKA),
        Column("offset", pa.int64(), "its offset", null_means=_NOT_FROM_KAFKA),
        Column(
            "source_details",
            pa.string(),
            "further coordinates as a JSON object: `queue` and `message` of an event, `length` of a byte range of a blob",
            null_means="there are none",
        ),
        Column("blob", WORD, "account alias/container/name of the blob that held the record", null_means=_NOT_FROM_A_BLOB),
        Column("generation", WORD, "generation of that blob", null_means=_NOT_FROM_A_BLOB),
        Column("record_offset", pa.int64(), "offset of the record in the blob", unit="bytes", null_means=_NOT_FROM_A_BLOB),
        Column("tuple_index", pa.int32(), "number of the tuple in its record, from 0", null_means="the record as a whole"),
        Column(
            "key",
            pa.string(),
            "key of the dead letter; bytes that are not UTF-8 as `\\xNN`",
            null_means="the letter has no key",
        ),
        Column("bytes_text", pa.string(), "the original bytes as text", null_means="they are not UTF-8: see `bytes_base64`"),
        Column("bytes_base64", pa.string(), "the original bytes as base64", null_means="they are UTF-8: see `bytes_text`"),
        Column(
            "size",
            pa.int64(),
            "length of the original bytes, those that the letter says it leaves out included",
            nullable=False,
            unit="bytes",
        ),
        Column(
            "headers",
            pa.string(),
            "headers of the original message as a JSON object: a header that repeats has a list of values; a value that is not "
            'UTF-8 is `{"base64": "..."}`',
            null_means="only a part of a message was given up, or it had no headers",
        ),
        Column("letter_source", WORD, "topic and partition of the dead letter itself, as `Errors/3`", nullable=False),
        Column(
            "letter_generation",
            WORD,
            "Kafka's id of the topic; it changes when the topic is deleted and recreated",
            nullable=False,
        ),
        Column("letter_offset", pa.int64(), "offset of the dead letter in its partition", nullable=False),
        Column("letter_index", pa.int32(), "always 0: a message is one dead letter", nullable=False),
    ),
    topic="errors",
    time="time",
    position=PositionColumns("letter_source", "letter_generation", "letter_offset", "letter_index"),
    example={
        "time": datetime(2026, 5, 1, 12, 0, 7, 250_000, tzinfo=UTC),
        "stage": "parser",
        "code": "bad_address",
        "reason": "src_ip is not an IP address",
        "topic": "Raw.FlowLogs",
        "partition": 3,
        "offset": 1_204,
        "blob": "shop.prod/insights-logs-flowlogflowevent/m=00/macAddress=00224871C205/PT1H.json",
        "generation": "5b1c0de9a3f47a26",
        "record_offset": 40_960,
        "tuple_index": 17,
        "key": "shop.prod/insights-logs-flowlogflowevent/m=00/macAddress=00224871C205/PT1H.json",
        "bytes_text": "1777636800123,10.0.0.4.4,10.1.0.9,50312,443,6,O,B,NX,0,0,0,0",
        "size": 60,
        "letter_source": "Errors/3",
        "letter_generation": "V3JhcHBlZEluQmxvYnRpZA",
        "letter_offset": 88,
        "letter_index": 0,
    },
)
