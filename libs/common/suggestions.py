"""Suggest the name that was probably meant by an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """Return the closest of `known`, or an empty string if none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the closest of `known`, or an empty string if none is close."""
    found = closest(name, known)
    return f"; did you mean {found}?" if found else ""
