"""Checkpoints as ingest keeps them in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobCheckpoint, CheckpointStatus, encode_event
from services.ingest.pending.checkpoints import _is_open, with_key, without
from tests.blob_container import EPOCH


@given(st.binary(max_size=300), st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 300))
def test_a_value_comes_back_whatever_it_holds(key: bytes, before: bytes, after: bytes, padding: int) -> None:
    """With the key at any place, several times or not at all."""
    for value in (bytes(padding) + before + key + after, before + after, key + before + key):
        assert with_key(key, without(key, value)) == value


@given(st.text(min_size=1, max_size=400), st.text(max_size=30), st.sampled_from(CheckpointStatus), st.integers(0, 2**60))
def test_open_blobs_are_told_without_decoding(name: str, generation: str, status: CheckpointStatus, offset: int) -> None:
    """Whatever the blob and its generation are called."""
    key = BlobId("s.e", "logs", name).key
    blob = key.decode()
    event = BlobCheckpoint(blob, generation, status, offset, 1, 7, "0x1", offset, 2, "dd", None, EPOCH)
    assert _is_open(key, encode_event(event)) is (status is CheckpointStatus.OPEN)


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_any_bytes_are_open_or_not(key: bytes, value: bytes) -> None:
    """Nothing is raised."""
    assert _is_open(key, value) in {True, False}
