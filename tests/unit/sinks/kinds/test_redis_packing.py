"""Commands on their way to Redis."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sinks.kinds.redis.packing import Packer

WORDS = st.binary(max_size=20) | st.text(st.characters(codec="utf-8"), max_size=20) | st.integers()


@given(st.lists(WORDS, max_size=6), st.lists(st.integers(0, 6), max_size=3))
def test_a_command_is_what_the_client_would_send(words: list[bytes | str | int], at: list[int]) -> None:
    """Whichever arguments are memory, the bytes are those of the protocol, and memory is sent from where it lies."""
    command: list[bytes | str | int | memoryview] = ["SET", *words]
    for place in at:
        command.insert(min(len(command), 1 + place), memoryview(b"document"))
    pieces = Packer().pack(*command)
    plain = tuple(bytes(word) if isinstance(word, memoryview) else word for word in command)
    assert b"".join(pieces) == hiredis.pack_command(plain)  # type: ignore[arg-type]
    memory = [word for word in command if isinstance(word, memoryview)]
    assert [id(piece) for piece in pieces if isinstance(piece, memoryview)] == [id(word) for word in memory]


@pytest.mark.parametrize("view", [(), (memoryview(b"x"),)])
def test_a_command_of_two_words_is_two(view: tuple[memoryview, ...]) -> None:
    """The client gives some commands as one text."""
    assert b"".join(Packer().pack("CONFIG GET", *view)).startswith(b"*%d\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n" % (2 + len(view)))
