"""Segments as messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat

OFFSETS = st.integers(0, 2**62)
SEGMENTS = st.builds(
    Segment,
    blob=st.text(max_size=50),
    generation=st.text("0123456789abcdef", min_size=16, max_size=16),
    start=OFFSETS,
    end=OFFSETS,
    ordinal=OFFSETS,
    format=st.sampled_from(SegmentFormat),
    data=st.binary(max_size=50),
    piece=st.none() | st.builds(RecordPiece, OFFSETS, OFFSETS, OFFSETS),
    labels=st.sampled_from([b"", b'{"service":"api"}']) | st.binary(max_size=20),
    encoding=st.sampled_from(["", "gzip", "zstd"]),
)


@given(SEGMENTS)
def test_a_segment_reads_back_from_its_message(segment: Segment) -> None:
    """Headers and value carry a segment whole."""
    assert Segment.from_message(segment.headers(), segment.data) == segment


@given(SEGMENTS, st.data())
def test_a_message_with_a_missing_header_is_refused(segment: Segment, data: st.DataObject) -> None:
    """A message that lacks a mandatory header is an error that names it."""
    missing = data.draw(st.sampled_from(["blob", "generation", "start", "end", "ordinal", "format"]))
    headers = [header for header in segment.headers() if header[0] != missing]
    with pytest.raises(CodecError, match=missing):
        Segment.from_message(headers, segment.data)


@given(SEGMENTS)
def test_a_segment_without_labels_or_encoding_has_no_such_header(segment: Segment) -> None:
    """They cost a message nothing if there are none."""
    assert ("labels" in dict(segment.headers())) == bool(segment.labels)
    assert ("encoding" in dict(segment.headers())) == bool(segment.encoding)
