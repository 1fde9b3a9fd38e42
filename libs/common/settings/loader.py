"""Load the settings: defaults, then the YAML file, then ``BLOBTIDE_...`` variables; refuse what nobody knows.

The file is ``--config``, else ``BLOBTIDE_CONFIG``, else ``~/.blobtide/config.yaml`` if it exists. A variable names a setting by
its path with ``__`` between groups: ``BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS``. There is no interpolation.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common.errors import ConfigError
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.problems import describe_problems
from libs.common.settings.services import (
    HttpSettings,
    IngestSettings,
    InstanceSettings,
    LogSettings,
    MonitorSettings,
    ParserSettings,
    SinkOptions,
)
from libs.common.settings.storage import Subscriptions

PREFIX = "BLOBTIDE_"
CONFIG_VARIABLE = "BLOBTIDE_CONFIG"
# Variables with our prefix that are no settings.
_OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "BLOBTIDE_HOME", "BLOBTIDE_CRASH_POINT"})


class Settings(BaseSettings):
    """All settings. The options of a sink are checked by that sink."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    subscriptions: Subscriptions = Field(default_factory=dict)
    monitor: MonitorSettings = MonitorSettings()
    ingest: IngestSettings = IngestSettings()
    parser: ParserSettings = ParserSettings()
    sinks: SinkOptions = Field(default_factory=dict)
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    instance: InstanceSettings = InstanceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file; read no .env file and no secrets folder."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Return the effective settings.

    Raises:
        ConfigError: one message that names every wrong setting and says what is wrong with it.
    """
    _refuse_unknown_variables(os.environ)
    file = path or _default_file(os.environ)
    values = _read_yaml(file) if file else {}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from error
    except ValueError as error:  # a variable that should be JSON and is not
        raise ConfigError(f"{error}: give groups and lists in {PREFIX}... variables as JSON") from error


def masked(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data for display, every secret as asterisks."""
    shown: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    shown["sinks"] = {name: _mask(options) for name, options in shown["sinks"].items()}
    return shown


_SECRET_WORDS = ("password", "secret", "token", "key", "connection_string", "url")


def _mask(options: Mapping[str, Any]) -> dict[str, Any]:
    """Hide what may be secret in options that only their sink can type: by name, and URLs that carry a password."""
    return {
        name: str(SecretStr("x"))
        if any(word in name for word in _SECRET_WORDS)
        and not name.endswith("_file")
        and ("url" not in name or "@" in str(value))
        else value
        for name, value in options.items()
    }


def _default_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    home = Path.home() / ".blobtide" / "config.yaml"
    return home if home.exists() else None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected groups such as 'kafka:', got a {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        group = variable.upper().split("__", 1)[0]
        if group not in known:
            close = difflib.get_close_matches(group, known, 1)
            hint = f"; did you mean {close[0]}...?" if close else f"; groups are {', '.join(known)}"
            raise ConfigError(f"unknown variable {variable}{hint}")


def _explain(error: ValidationError, file: Path | None) -> str:
    where = f"{file} or {PREFIX}... variables" if file else f"{PREFIX}... variables"
    return f"in {where}: {describe_problems(error, Settings)}"
