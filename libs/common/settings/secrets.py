"""A secret setting is given as a value, as a reference to a key vault, or as a file, never both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from libs.common.errors import ConfigError
from libs.common.security.redaction import is_secret_name, remember
from libs.common.settings.text_file import read_text_file

REFERENCE: Final = "kv://"
"""How a reference to a secret begins, which is no secret itself; `references` says what it looks like."""


def read_secret(name: str, value: SecretStr | None, file: Path | None) -> str | None:
    """Return the secret `name`, or None if neither it nor ``<name>_file`` is set. Surrounding line breaks are stripped.

    Raises:
        ConfigError: both are set, or the file cannot be read or is empty, or the secret is a reference that was not read; the
            message never shows the secret.
    """
    if file is None:
        text = value.get_secret_value() if value is not None else None
        refuse_unread(name, text)
        remember(text or "")
        return text
    if value is not None:
        raise ConfigError(f"give {name} or {name}_file, not both")
    text = read_text_file(file, f"{name}_file").strip("\r\n")
    if not text:
        raise ConfigError(f"{name}_file {file} is empty")
    remember(text)
    return text


def refuse_unread(name: str, text: str | None) -> None:
    """Raise ConfigError if a secret is still a reference: whoever loaded the settings did not want it, so nobody may use it."""
    if text is not None and text.startswith(REFERENCE):
        raise ConfigError(f"{name} is in a key vault, and was not read")


def remember_secrets(settings: BaseModel) -> None:
    """Register all secrets in `settings` for redaction from every output."""
    for secret in _secrets_in(settings):
        remember(secret)


def holds_secrets(settings: BaseModel, from_elsewhere: frozenset[str] = frozenset()) -> bool:
    """Return whether `settings` contain a secret itself, not just a reference to it or the name of a file that holds it."""
    return any(secret not in from_elsewhere for secret in _secrets_in(settings))


def _secrets_in(value: Any) -> Iterator[str]:
    return (secret for secret in _values_of(value) if secret and not secret.startswith(REFERENCE))


def _values_of(value: Any, name: str = "") -> Iterator[str]:
    """Yield values that are secret by type or, where only a sink knows the types, by name."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case str() if is_secret_name(name):
            yield value
        case BaseModel():
            yield from _values_of(dict(value))
        case dict():
            for inner_name, inner in value.items():
                yield from _values_of(inner, str(inner_name))
        case list() | tuple():
            for inner in value:
                yield from _values_of(inner, name)
        case _:
            pass
