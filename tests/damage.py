"""Damaged copies of bytes, the same ones in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged(whole: bytes, copies: int, seed: int) -> Iterator[bytes]:
    """Yield copies of `whole` in which one to three bytes were replaced."""
    chance = random.Random(seed)
    for _ in range(copies):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        yield bytes(data)
