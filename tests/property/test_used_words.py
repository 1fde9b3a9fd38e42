"""Property: cutting rows out of a table leaves their values, and no words that they do not use."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.row_type import WORD
from libs.common.rows.used_words import used_words_only


@given(words=st.lists(st.none() | st.sampled_from("abcdef"), max_size=20), start=st.integers(0, 20), length=st.integers(0, 20))
def test_rows_keep_their_words(words: list[str | None], start: int, length: int) -> None:
    """Rows cut out of a table keep their values and their types, and have the words that they use and no other."""
    column = pa.array(words, pa.string()).dictionary_encode().cast(WORD)
    table = pa.table({"word": column, "n": range(len(words))}).slice(start, length)
    cut = used_words_only(table)
    assert cut.to_pylist() == table.to_pylist()
    assert cut.schema == table.schema
    for chunk in cut.column("word").chunks:
        assert set(chunk.dictionary.to_pylist()) == {word for word in chunk.to_pylist() if word is not None}
