"""The source that was asked for on the command line, as the settings that the recorder has for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

import click
from pydantic import ValidationError

from libs.common.security.redaction import is_secret_name
from libs.common.settings.problems import describe_problems
from libs.common.settings.recorder import HttpSourceSettings

_PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"
_LONGEST_NAME: Final = 63
_OPTIONS: Final[Mapping[str, str]] = {
    "url": "URL",
    "path": "URL",
    "name": "--name",
    "wrap": "--wrap",
    "items": "--items",
    "interval_seconds": "--every",
    "timeout_seconds": "--timeout",
    "headers": "--header",
    "header_files": "--header",
}


@dataclass(frozen=True, slots=True)
class RecordingAsked:
    """The options of the command line; times are seconds."""

    url: str
    directory: Path
    every: float
    rotate: float
    name: str | None
    wrap: str | None
    merge: bool
    items: str | None
    headers: tuple[str, ...]
    allow_plaintext_credentials: bool
    timeout: float
    count: int | None
    log_level: str


def source_of(asked: RecordingAsked) -> HttpSourceSettings:
    """Return the source.

    Raises:
        click.UsageError: an option is wrong, or a secret would show on the command line.
    """
    if asked.merge and asked.wrap is not None:
        raise click.UsageError("--merge and --wrap exclude each other")
    parts = _split(asked.url)
    values = {
        "url": f"{parts.scheme}://{parts.netloc}",
        "path": quote(parts.path, safe=_PATH_SAFE),
        "name": _name_for(parts) if asked.name is None else asked.name,
        "wrap": asked.wrap or "",
        "items": asked.items or "",
        "interval_seconds": asked.every,
        "timeout_seconds": asked.timeout,
        "allow_plaintext_credentials": asked.allow_plaintext_credentials,
        **_files_apart("param", "the query", parse_qsl(parts.query, keep_blank_values=True)),
        **_files_apart("header", "--header", [_header(text) for text in asked.headers]),
    }
    try:
        return HttpSourceSettings.model_validate(values)
    except ValidationError as error:
        raise click.UsageError(_in_options(describe_problems(error, HttpSourceSettings))) from error


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise click.UsageError("URL: give an address such as http://127.0.0.1:8000/path") from None
    if "@" in parts.netloc:
        raise click.UsageError("URL: put user and password into a file that --header names, not into the address")
    return parts


def _name_for(parts: SplitResult) -> str:
    """Return a name for a source: the last part of its path, or its host."""
    last = next((part for part in reversed(parts.path.split("/")) if part), parts.hostname or "")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:_LONGEST_NAME] or "source"


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError("--header: give it as 'NAME: VALUE'")
    return name.strip(), value.strip()


def _files_apart(kind: str, where: str, given: list[tuple[str, str]]) -> dict[str, Any]:
    """Return parameters or headers as settings: those with a secret value, which must be ``@FILE``, apart from the others."""
    values: dict[str, str] = {}
    files: dict[str, Path] = {}
    for name, value in given:
        if name in values or name in files:
            raise click.UsageError(f"{where}: {name} is given twice")
        if not is_secret_name(name):
            values[name] = value
        elif value.startswith("@"):
            files[name] = Path(value[1:])
        else:
            raise click.UsageError(
                f"{where}: others on this machine would see the value of {name}: put it into a file, and give @FILE instead"
            )
    return {f"{kind}s": values, f"{kind}_files": files}


def _in_options(problems: str) -> str:
    """Name options instead of settings."""
    for setting, option in _OPTIONS.items():
        problems = re.sub(rf"(^|; ){setting}\b[^:]*:", rf"\g<1>{option}:", problems)
    return problems
