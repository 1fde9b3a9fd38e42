"""A secret setting comes as a value or from a file; the file wins nothing: give one of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from libs.common.errors import ConfigError


def read_secret(name: str, value: SecretStr | None, file: Path | None) -> str | None:
    """Return the secret `name`, or None if neither it nor ``<name>_file`` is set. Line ends around it are dropped.

    Raises:
        ConfigError: if both are set, or the file cannot be read or is empty; never shows the secret.
    """
    if file is None:
        return value.get_secret_value() if value is not None else None
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
    return text
