"""Recognise UTF-16 text by its bytes. Pure."""

from __future__ import annotations

import codecs

_LOOK = 64  # bytes to look at; ASCII text in UTF-16 has a zero in every second one
_LEAST = 4


def utf16_of(data: bytes) -> str | None:
    """Return the name of the UTF-16 codec for `data`, which may come from anywhere in a text; None if it is not UTF-16."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = data[:_LOOK]
    zeros = sample[0::2], sample[1::2]
    if len(sample) < _LEAST or any(zeros[0]) == any(zeros[1]):
        return None
    return "utf-16-be" if not any(zeros[0]) else "utf-16-le"
