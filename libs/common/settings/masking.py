"""Settings for display, with asterisks for secrets: values typed as such, values with a telling name, and parts of URLs."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel, SecretStr

_HIDDEN: Final = str(SecretStr("x"))
# For options whose types only a sink or the Kafka client knows. Other SASL options can hold a login as well.
_SECRET_WORDS: Final = ("password", "passphrase", "secret", "token", "key", "connection_string", "pem", "sasl.")
_USER_INFO: Final = re.compile(r"://.*@", re.DOTALL)
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)


def masked_options(options: BaseModel) -> dict[str, Any]:
    """Return the options of one sink as plain data for display, with asterisks for secrets."""
    shown: dict[str, Any] = _masked_by_name(_masked_urls(options.model_dump(mode="json", exclude_none=True)))
    return shown


def masked(settings: BaseModel) -> dict[str, Any]:
    """Return the settings as plain data for display, with asterisks for secrets."""
    shown: dict[str, Any] = _masked_urls(settings.model_dump(mode="json", exclude_none=True))
    shown["sinks"] = {name: _masked_by_name(options) for name, options in shown["sinks"].items()}
    shown["kafka"]["librdkafka"] = _masked_by_name(shown["kafka"]["librdkafka"])
    return shown


def _masked_urls(value: Any) -> Any:
    """Hide the user info and the query (possibly a signature) of every URL."""
    match value:
        case dict():
            return {name: _masked_urls(inner) for name, inner in value.items()}
        case list():
            return [_masked_urls(inner) for inner in value]
        case str() if "://" in value:
            return _QUERY.sub(f"?{_HIDDEN}", _USER_INFO.sub(f"://{_HIDDEN}@", value))
        case _:
            return value


def _masked_by_name(value: Any) -> Any:
    match value:
        case dict():
            return {name: _HIDDEN if _is_secret(str(name)) else _masked_by_name(inner) for name, inner in value.items()}
        case list():
            return [_masked_by_name(inner) for inner in value]
        case _:
            return value


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS) and not name.endswith(("_file", ".location"))
