"""Validation errors on one line: which setting, what is wrong with it, and which one was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from libs.common.suggestions import closest, did_you_mean

__all__ = ["describe_problems", "did_you_mean"]

_Location = tuple[int | str, ...]

# Replaces the library's messages, which speak of its own types.
_WANTED: Final = {
    "tuple_type": "give a list, such as [a, b]",
    "dict_type": "give settings below it, such as name: value",
    "model_type": "give settings below it, such as name: value",
    "string_type": "give text (quote values that look like a number, a date or a boolean)",
}


def describe_problems(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Return every problem in `error`, named by its path under `prefix` (``sinks.file.``); no values, which may be secret."""
    return "; ".join(_described(error.errors(), model, prefix))


def _described(problems: list[Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    wrong_parts = {problem["loc"][:end] for problem in problems for end in range(len(problem["loc"]))}
    misspelt = {
        (*location[:-1], closest(str(location[-1]), _fields_at(model, location[:-1])))
        for location in (problem["loc"] for problem in problems if problem["type"] == "extra_forbidden")
    }
    for problem in problems:
        location: _Location = problem["loc"]
        if problem["type"] == "missing" and location in misspelt:
            continue  # it is present under a misspelt name
        if problem["type"] == "too_short" and location in wrong_parts:
            continue  # it is too short only because its invalid items are not counted
        yield _describe(problem, model, prefix)


def _describe(problem: Any, model: type[BaseModel], prefix: str) -> str:
    location: _Location = problem["loc"]
    path = prefix + ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown setting{did_you_mean(str(location[-1]), _fields_at(model, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{path}: missing"
    message = _WANTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    return f"{path.rstrip('.')}: {message}" if path else message


def _fields_at(model: Any, location: _Location) -> Iterable[str]:
    for part in location:
        model = _inside(model, part)
    return getattr(model, "model_fields", {})


def _inside(annotation: Any, part: int | str) -> Any:
    """Return the type expected at `part` of a group, dictionary or variable-length tuple; None if unknown."""
    if fields := getattr(annotation, "model_fields", None):
        return getattr(fields.get(part), "annotation", None)
    inner = get_args(annotation) or (None,)
    return inner[-1] if get_origin(annotation) is dict else inner[0]
