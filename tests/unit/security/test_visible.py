"""Text from outside on a terminal."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.security.visible import OBEYED, OBEYED_RE2, visible, visible_line

OBEYED_CHARACTERS = [chr(n) for n in (0, 7, 8, 9, 0x0B, 0x0D, 0x1B, 0x7F, 0x80, 0x9B, 0x9F, 0x61C, 0x200E, 0x200F)]
OBEYED_CHARACTERS += [chr(n) for n in (*range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF)]


@pytest.mark.parametrize("character", OBEYED_CHARACTERS, ids=ascii)
def test_what_a_terminal_obeys_is_shown_as_an_escape(character: str) -> None:
    """Control characters of both sets, marks of direction, separators and half characters."""
    assert visible(f"a{character}b") == f"a\\u{ord(character):04x}b"
    assert visible_line(f"a{character}\nb") == f"a\\u{ord(character):04x}\\u000ab"


def test_everything_else_stays_and_lines_stay_lines() -> None:
    """Letters of every script, emoji and line ends are no danger."""
    text = "Grüße, 世界, שלום, مرحبا 👩‍💻\nzwei\n"
    assert visible(text) == text


@given(st.dictionaries(st.text(), st.text()))
def test_json_means_the_same_when_it_is_made_visible(value: dict[str, str]) -> None:
    """A program can read what is shown to people."""
    assert json.loads(visible_line(json.dumps(value, ensure_ascii=False))) == value


def test_columns_are_searched_for_the_same_characters() -> None:
    """Both expressions mean the same, but for the line feed and what Arrow cannot hold."""
    characters = [chr(n) for n in (*range(0xD800), *range(0xE000, 0x10000))]
    found = pc.match_substring_regex(pa.array(characters), OBEYED_RE2).to_pylist()
    assert [c for c, is_found in zip(characters, found, strict=True) if is_found != bool(OBEYED.match(c))] == ["\n"]
