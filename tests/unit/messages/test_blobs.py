"""Blob ids and the partitioner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.messages.blobs import BlobId, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    # Values of Kafka's own UtilsTest.testMurmur2, made positive.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_the_partitioner_agrees_with_kafkas_own_test_vectors(key: bytes, expected: int) -> None:
    """A key goes to the partition that Java's and librdkafka's murmur2 give it."""
    assert partition_of(key, 1_000_003) == (expected & 0x7FFFFFFF) % 1_000_003


@given(st.text(min_size=1, max_size=100).filter(lambda name: len(name) <= 100))
def test_a_blob_id_reads_back_from_its_text(name: str) -> None:
    """Any blob name, slashes included, survives the way through the text form."""
    blob = BlobId("prod.eu-1", "insights-logs-flowlogflowevent", name)
    assert BlobId.parse(str(blob)) == blob


@pytest.mark.parametrize(
    "text", ["", "a", "a/b", "a/bcd/", "../bcd/x", "a b/ccc/x", "a/UPPER/x", "/ccc/x", "a/ccc/" + "x" * 1025]
)
def test_a_text_that_is_no_blob_id_is_refused(text: str) -> None:
    """Aliases and containers that nobody can have configured are an error, not a lookup."""
    with pytest.raises(CodecError, match="not a blob id"):
        BlobId.parse(text)
