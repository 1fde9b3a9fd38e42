"""What a group of settings consists of, in words: the name, type, default and meaning of each setting."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

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
    """Yield the settings of a group and of the groups inside it, in order."""
    for name, field in model.model_fields.items():
        inner = group_in(field.annotation)
        if inner is None:
            values = _values(field.annotation)
            yield SettingDescription(
                f"{prefix}{name}", values, " | ".join(values) or _type(field), _default(field), field.description or ""
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
    annotation = field.annotation
    text = annotation.__name__ if inspect.isclass(annotation) and not get_args(annotation) else str(annotation)
    text = re.sub(r"Optional\[(.*)\]$", r"\1", re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", text))
    text = re.sub(r"(\w+\.)+", "", text).replace("SecretStr", "secret").replace("|", "or").replace("or None", "").strip()
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
        value = tuple(str(part) if isinstance(part, StrEnum) else part for part in value)
    return str(value)
