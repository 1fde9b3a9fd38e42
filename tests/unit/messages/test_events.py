"""Control events and their encoding."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.messages.events import (
    BlobCheckpoint,
    BlobClosed,
    BlobCompletion,
    BlobForgotten,
    BlobObserved,
    BlobQuarantined,
    BlobReleased,
    BlobReopened,
    BlobsListed,
    BlobState,
    BlobStatus,
    CheckpointStatus,
    Event,
    SourceState,
    Stream,
    decode_event,
    encode_event,
    event_headers,
    read_fields,
)

FIXTURES = Path(__file__).parents[2] / "data" / "events.json"
T = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
LABELS = {"service": "api", "pod": "api-7d9f-x2"}
EVENTS: list[Event] = [
    BlobObserved("s.e/ccc/n", "s", "e", Stream.FLOW_LOGS, '"0x1"', 14, "BlockBlob", T, T, T, 12, "again"),
    BlobsListed("s.e", "ccc", "p/", "s", "e", T, T, 3, 42),
    BlobClosed("s.e/ccc/n", '"0x1"', 14, T, T, 900),
    BlobClosed("s.e/ccc/n", '"0x1"', 14, T, T, 900, Stream.PROXY_LOGS, 12),
    BlobReopened("s.e/ccc/n", '"0x2"', 20, T, T),
    BlobState("s.e/ccc/n", "s", "e", Stream.PROXY_LOGS, BlobStatus.CLOSED, '"0x1"', 14, "AppendBlob", T, None, T, T, None, ""),
    BlobCheckpoint("s.e/ccc/n", "00ff", CheckpointStatus.OPEN, 12, 1, 7, '"0x1"', 14, 2, "dd", None, T, ""),
    BlobCheckpoint(
        "s.e/ccc/n",
        "00ff",
        CheckpointStatus.COMPLETE,
        12,
        1,
        7,
        "",
        14,
        2,
        "dd",
        T,
        T,
        "",
        Stream.PROXY_LOGS,
        "lines",
        3,
        seen_etag="0x1",
        before="12:dd",
        checksum=4_294_967_295,
        checksum_from=5,
        unread=1,
        encoding="gzip",
        read_offset=14,
        decoded_start=100,
        decoded_offset=140,
    ),
    BlobCompletion("s.e/ccc/n", "00ff", CheckpointStatus.INCOMPLETE, 0, 12, 1, 7, T),
    BlobCompletion("s.e/ccc/n", "00ff", CheckpointStatus.COMPLETE, 0, 12, 1, 7, T, 0, 140),
    BlobQuarantined("s.e/ccc/n", "00ff", 12, 700, 400, T),
    BlobReleased("s.e/ccc/n", Stream.PROXY_LOGS, BlobStatus.CLOSED, '"0x1"', 14, "AppendBlob", None, T, 12, "again"),
    BlobForgotten("s.e/ccc/n", T),
    SourceState("flowinfo", "1777636800001-9f3a61c2", 12, T, '"a"', "Fri, 01 May 2026 12:00:00 GMT", 64 * "0"),
    BlobObserved("s.e/ccc/n", "s", "e", Stream.PROXY_LOGS, '"0x1"', 14, "AppendBlob", T, T, T, labels=LABELS),
    BlobsListed("s.e", "ccc", "p/20260501.api-", "s", "e", T, T, 3, 42, "api", date(2026, 5, 1)),
    BlobClosed("s.e/ccc/n", '"0x1"', 14, T, T, 900, Stream.PROXY_LOGS, labels=LABELS),
    BlobState("s.e/c/n", "s", "e", Stream.PROXY_LOGS, BlobStatus.OPEN, '"0x1"', 14, "AppendBlob", T, T, T, T, labels=LABELS),
    BlobReleased("s.e/ccc/n", Stream.PROXY_LOGS, BlobStatus.OPEN, '"0x1"', 14, "AppendBlob", T, T, labels=LABELS),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_reads_back_as_it_was(event: Event) -> None:
    """Every kind of event survives encoding, with its type in the headers."""
    assert decode_event(encode_event(event)) == event
    assert dict(event_headers(event))["type"] == type(event).__name__.encode()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_fields_are_read_as_they_stand(event: Event) -> None:
    """Without conversion times are microseconds, days are numbers and enums text; an event of another kind is none of these."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return (value - date(1970, 1, 1)).days if isinstance(value, date) else value

    fields = {name: plain(getattr(event, name)) for name in event.__dataclass_fields__}
    assert read_fields(encode_event(event), type(event)) == fields
    other = BlobsListed if not isinstance(event, BlobsListed) else BlobState
    assert read_fields(encode_event(event), other) is None


@pytest.mark.parametrize("name", sorted(json.loads(FIXTURES.read_text())))
def test_fields_of_every_earlier_schema_version_are_read(name: str) -> None:
    """A version that is no longer written gives the fields of the newest."""
    data = bytes.fromhex(json.loads(FIXTURES.read_text())[name])
    event = decode_event(data)
    fields = read_fields(data, type(event))
    assert fields is not None
    assert fields.keys() == event.__dataclass_fields__.keys()


@pytest.mark.parametrize("data", [b"", b"nothing", b"\xc3\x01unknown!!", encode_event(EVENTS[5])[:20]])
def test_fields_of_what_is_no_event_are_refused(data: bytes) -> None:
    """Broken and foreign bytes are told as when decoding."""
    with pytest.raises(CodecError):
        read_fields(data, BlobState)


@pytest.mark.parametrize("name", sorted(json.loads(FIXTURES.read_text())))
def test_events_written_by_every_earlier_schema_version_stay_readable(name: str) -> None:
    """The bytes kept from each schema version decode to an event of that kind."""
    data = bytes.fromhex(json.loads(FIXTURES.read_text())[name])
    assert type(decode_event(data)).__name__ == name.split(".", maxsplit=1)[0]


@given(st.binary(max_size=200), st.sampled_from(EVENTS), st.integers(0, 200))
def test_broken_bytes_are_a_codec_error_or_an_event(noise: bytes, event: Event, cut: int) -> None:
    """Whatever bytes come, decoding gives an event or a CodecError and nothing else."""
    for data in (noise, encode_event(event)[:cut] + noise):
        with contextlib.suppress(CodecError):
            decode_event(data)


def test_a_compressed_blob_was_read_further_than_where_it_is_decoded_again() -> None:
    """A checkpoint of a blob that is not compressed, of any version, has one offset for both."""
    plain = decode_event(bytes.fromhex(json.loads(FIXTURES.read_text())["BlobCheckpoint.v4"]))
    assert isinstance(plain, BlobCheckpoint)
    assert (plain.read_to, plain.next_offset, plain.encoding, plain.decoded_offset) == (12, 12, "", None)
    assert replace(plain, read_offset=0).read_to == 0
    assert replace(plain, read_offset=14).read_to == 14


def test_a_text_that_is_no_value_of_its_enum_is_a_codec_error() -> None:
    """A stream or status that nobody knows does not end whoever reads it."""
    unknown: Any = "carrier_pigeon"
    with pytest.raises(CodecError, match="carrier_pigeon"):
        decode_event(encode_event(replace(EVENTS[0], stream=unknown)))


def test_an_event_of_an_unknown_schema_is_named_as_such() -> None:
    """A fingerprint nobody knows is refused with the fingerprint in the message."""
    data = encode_event(replace(EVENTS[2], size=1))  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="unknown schema 0000000000000000"):
        decode_event(data[:2] + bytes(8) + data[10:])
