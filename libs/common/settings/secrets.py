"""A secret setting comes as a value or from a file; the file wins nothing: give one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from libs.common.errors import ConfigError
from libs.common.redaction import is_secret_name, remember


def read_secret(name: str, value: SecretStr | None, file: Path | None) -> str | None:
    """Return the secret `name`, or None if neither it nor ``<name>_file`` is set. Line ends around it are dropped.

    Raises:
        ConfigError: if both are set, or the file cannot be read or is empty; never shows the secret.
    """
    if file is None:
        text = value.get_secret_value() if value is not None else None
        remember(text or "")
        return text
    if value is not None:
        raise ConfigError(f"give {name} or {name}_file, not both")
    try:
        text = file.read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read {name}_file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}_file {file} is not text") from error
    if not text:
        raise ConfigError(f"{name}_file {file} is empty")
    remember(text)
    return text


def remember_secrets(value: Any, name: str = "") -> None:
    """Keep out of every output what is secret in settings, by its type or, where only a sink knows types, by its name."""
    match value:
        case SecretStr():
            remember(value.get_secret_value())
        case str() if is_secret_name(name):
            remember(value)
        case BaseModel():
            remember_secrets(dict(value))
        case dict():
            for inner_name, inner in value.items():
                remember_secrets(inner, str(inner_name))
        case list() | tuple():
            for inner in value:
                remember_secrets(inner, name)
        case _:
            pass
