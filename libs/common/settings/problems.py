"""Validation errors as one line: which setting, what is wrong with it, and which one was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


def describe_problems(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Return every problem of `error`, named by its path under `prefix` (``sinks.file.``); no values, they may be secrets."""
    return "; ".join(_describe(problem, model, prefix) for problem in error.errors())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the closest of `known`, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _describe(problem: Any, model: type[BaseModel], prefix: str) -> str:
    location: tuple[int | str, ...] = problem["loc"]
    path = prefix + ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown setting{did_you_mean(str(location[-1]), _fields_at(model, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{path}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{path.rstrip('.')}: {message}" if path else message


def _fields_at(model: Any, location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location:
        fields = getattr(model, "model_fields", {})
        model = getattr(fields.get(part), "annotation", None)
    return getattr(model, "model_fields", {})
