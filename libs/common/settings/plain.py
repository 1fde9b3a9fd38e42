"""Settings as plain data, secrets included, for our own child processes to load; anything else must use `masking`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr


def plain(settings: BaseModel) -> dict[str, Any]:
    """Return what is set, as a settings file would hold it: defaults left out, secrets in clear text."""
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
