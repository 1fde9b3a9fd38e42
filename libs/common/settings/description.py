"""What a group of settings consists of, in words: the name, type, default and meaning of each setting."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS: Final = {
    "dict": "map",
    "SecretStr": "secret",
    "Path": "path",
    "datetime.datetime": "time",
    "datetime.date": "date",
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "str": "text",
}
"""What the types of settings are called, by a word in their annotation; the first that fits."""
_BOUNDS: Final = (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt"))


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting in words.

    Attributes:
        name: its path below the group, such as ``batch.seconds``.
        values: the values that it may have, if they are few; else empty.
        type: its type and bounds; the values, separated by a bar, if they are few.
        default: its default, ``required`` if it has none, empty if that is nothing.
        meaning: its description.
    """

    name: str
    values: tuple[str, ...]
    type: str
    default: str
    meaning: str


def described(model: type[BaseModel], prefix: str = "") -> Iterator[SettingDescription]:
    """Yield the settings of a group and of the groups inside it, in order; a group that has a place of its own is one line."""
    for name, field in model.model_fields.items():
        inner = group_in(field.annotation)
        elsewhere = getattr(inner, "described_at", "")
        if elsewhere:
            yield SettingDescription(f"{prefix}{name}", (), f"group as {elsewhere}", "", field.description or "")
        elif inner is None:
            values = _values(field.annotation)
            choice = ("list of " if values and _is_list(field.annotation) else "") + " | ".join(values)
            yield SettingDescription(
                f"{prefix}{name}", values, choice or _type(field), _default(field), field.description or ""
            )
        else:
            suffix = "[]." if "tuple" in str(field.annotation) else "."
            yield from described(inner, f"{prefix}{name}{suffix}")


def group_in(annotation: Any) -> type[BaseModel] | None:
    """Return the group in an annotation such as `Group`, `Group | None` or `tuple[Group, ...]`; None if there is none."""
    if inspect.isclass(annotation) and not get_args(annotation) and issubclass(annotation, BaseModel):
        return annotation
    if "dict" in str(annotation).split("[", maxsplit=1)[0]:
        return None
    return next((found for part in get_args(annotation) if (found := group_in(part)) is not None), None)


def _values(annotation: Any) -> tuple[str, ...]:
    parts = [part for part in (annotation, *get_args(annotation)) if inspect.isclass(part)]
    return tuple(str(value) for part in parts for value in getattr(part, "__members__", {}).values())


def _type(field: FieldInfo) -> str:
    shown = str(field.annotation)
    text = next((words for name, words in _WORDS.items() if re.search(rf"\b{name}\b", shown)), shown)
    if _is_list(field.annotation):
        text = f"list of {text}"
    bounds = [
        f"{sign} {value}" for sign, key in _BOUNDS for part in field.metadata if (value := getattr(part, key, None)) is not None
    ]
    return ", ".join([text, *bounds])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or str(value) in {"", "()", "{}"}:
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_list(annotation: Any) -> bool:
    return "tuple[" in str(annotation)
