"""Settings as plain data with their secrets, for another process of ours to load; `masking` is for everybody else."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr


def plain(settings: BaseModel) -> dict[str, Any]:
    """Return what is set, as a settings file would say it: what has its default is left out, secrets are as they are."""
    data: dict[str, Any] = _plain(settings.model_dump(exclude_unset=True))
    return data


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Enum():
            return value.value
        case Path():
            return str(value)
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value
