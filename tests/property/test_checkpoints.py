"""Checkpoints as ingest keeps them in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.checkpoints import with_key, without


@given(st.binary(max_size=300), st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 300))
def test_a_value_comes_back_whatever_it_holds(key: bytes, before: bytes, after: bytes, padding: int) -> None:
    """With the key at any place, several times or not at all."""
    for value in (bytes(padding) + before + key + after, before + after, key + before + key):
        assert with_key(key, without(key, value)) == value
