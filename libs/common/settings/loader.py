"""Load the settings: defaults, then the YAML file, then ``BLOBTIDE_...`` variables; refuse what nobody knows.

The file is ``--config``, else ``BLOBTIDE_CONFIG``, else ``~/.blobtide/config.yaml`` if it exists. A variable names a setting by
its path with ``__`` between groups: ``BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS``. There is no interpolation.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common.errors import ConfigError
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.problems import describe_problems
from libs.common.settings.secrets import remember_secrets
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
from libs.common.settings.variables import CONFIG_VARIABLE, PREFIX, Variables, refuse_unknown_variables
from libs.common.settings.yaml_file import read_yaml


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
        del env_settings, dotenv_settings, file_secret_settings
        return Variables(settings_cls), init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Return the effective settings.

    Raises:
        ConfigError: one message that names every wrong setting and says what is wrong with it.
    """
    refuse_unknown_variables(os.environ, Settings.model_fields)
    file = settings_file(path)
    values = _read_yaml(file) if file else {}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from error
    except ValueError as error:  # a variable that should be JSON and is not
        raise ConfigError(f"{error}: give groups and lists in {PREFIX}... variables as JSON") from error
    remember_secrets(settings)
    return settings


def settings_file(path: Path | None = None) -> Path | None:
    """Return the file that `load_settings` reads if it is given `path`; None if it reads none."""
    if path is not None:
        return path
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    home = Path.home() / ".blobtide" / "config.yaml"
    return home if home.exists() else None


def _read_yaml(file: Path) -> dict[str, Any]:
    values = read_yaml(file)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected groups such as 'kafka:', got a {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def _explain(error: ValidationError, file: Path | None) -> str:
    where = f"{file} or {PREFIX}... variables" if file else f"{PREFIX}... variables"
    return f"in {where}: {describe_problems(error, Settings)}"
