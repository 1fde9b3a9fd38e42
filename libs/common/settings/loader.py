"""Load the settings: defaults, overridden by the YAML file, overridden by ``BLOBTIDE_...`` variables; refuse unknown names.

The file is ``--config``, else ``BLOBTIDE_CONFIG``, else ``~/.blobtide/config.yaml`` if it exists. A variable names a setting by
its path, with ``__`` between the parts: ``BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS``. There is no interpolation, but a text may be a
reference to a secret in a key vault (`references`), which is read before the settings are checked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common.errors import ConfigError
from libs.common.settings.aggregator import AggregatorSettings
from libs.common.settings.azure import AzureSettings
from libs.common.settings.collector import CollectorSettings
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.parser import ParserSettings
from libs.common.settings.problems import describe_problems
from libs.common.settings.process import HttpSettings, InstanceSettings, LogSettings
from libs.common.settings.recorder import RecorderSettings
from libs.common.settings.references import OpenReader, ResolvedSettings, SecretReference, Wanted, refuse_references, resolved
from libs.common.settings.secrets import holds_secrets, remember_secrets
from libs.common.settings.sinks import SinkOptions
from libs.common.settings.storage import Subscriptions
from libs.common.settings.variables import CONFIG_VARIABLE, PREFIX, Variables, refuse_unknown_variables
from libs.common.settings.yaml_file import read_yaml

_NO_TEXT: Final = re.compile("[\\0\ud800-\udfff]")


class Settings(BaseSettings):
    """All settings. Each sink validates its own options."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    azure: AzureSettings = AzureSettings()
    subscriptions: Subscriptions = Field(default_factory=dict)
    monitor: MonitorSettings = MonitorSettings()
    ingest: IngestSettings = IngestSettings()
    parser: ParserSettings = ParserSettings()
    aggregator: AggregatorSettings = AggregatorSettings()
    collector: CollectorSettings = CollectorSettings()
    recorder: RecorderSettings = RecorderSettings()
    sinks: SinkOptions = Field(default_factory=dict)
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    instance: InstanceSettings = InstanceSettings()

    _notes: tuple[str, ...] = PrivateAttr(())
    _from_vaults: frozenset[str] = PrivateAttr(frozenset())
    _unread: Mapping[str, SecretReference] = PrivateAttr(default_factory=dict)

    @property
    def from_vaults(self) -> frozenset[str]:
        """The texts that came from key vaults, which are all secret, whatever setting they are for."""
        return self._from_vaults

    @property
    def unread(self) -> Mapping[str, SecretReference]:
        """References to secrets that were not read and still stand in the settings, by the path of the setting."""
        return self._unread

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about how these settings are stored, logged at every start."""
        return self._notes

    @model_validator(mode="before")
    @classmethod
    def _text(cls, values: Any) -> Any:
        for path, text in _texts(values, ""):
            if _NO_TEXT.search(text):
                raise ValueError(f"{path}: contains a NUL or an unpaired surrogate")
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, and nothing else: `load_settings` has read file and environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load_settings(
    path: Path | None = None, open_reader: OpenReader = refuse_references, wanted: Wanted = lambda _: True
) -> Settings:
    """Return the effective settings, with the secrets that `open_reader` reads in place of the references that are `wanted`.

    Raises:
        ConfigError: its message names every invalid setting and says what is wrong with it.
        ServerUnreachable: a key vault does not answer.
    """
    return _loaded(settings_file(path), lambda values: resolved(values, open_reader, wanted))


def load_unread(path: Path | None = None) -> Settings:
    """Return the settings as they are without key vaults: all references stand in them as text.

    Raises:
        ConfigError: as `load_settings`; also if only the value of a secret can be checked, since it must have some form.
    """
    return load_settings(path, wanted=lambda _: False)


def raw_settings(path: Path | None = None) -> dict[str, Any]:
    """Return file and environment as plain values, unchecked. Raises `ConfigError`."""
    return _raw(settings_file(path))


def _raw(file: Path | None) -> dict[str, Any]:
    refuse_unknown_variables(os.environ, Settings.model_fields)
    values = read_groups(file) if file else {}
    try:
        return _overridden(values, Variables(Settings)())
    except RecursionError as error:
        raise ConfigError("settings are nested too deeply; check the BLOBTIDE_... variables") from error
    except ValueError as error:  # a variable that should be JSON but is not
        raise ConfigError(f"{error}: give groups and lists in {PREFIX}... variables as JSON") from error


def _overridden(values: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    """Return groups in which single settings are overridden."""
    merged = dict(values)
    for name, value in by.items():
        inner = merged.get(name)
        merged[name] = _overridden(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _loaded(file: Path | None, resolve: Callable[[dict[str, Any]], ResolvedSettings]) -> Settings:
    try:
        found = resolve(_raw(file))
        settings = _checked(found, file)
    except RecursionError as error:
        raise ConfigError("settings are nested too deeply; check the BLOBTIDE_... variables") from error
    settings._from_vaults, settings._unread = found.secrets, found.unread  # noqa: SLF001
    remember_secrets(settings)
    settings = _with_azure(settings)
    if file is not None and _others_can_read(file) and holds_secrets(settings, found.secrets):
        settings._notes = (f"{file} holds secrets and is world-readable: chmod 600 it, or give secrets as files (..._file)",)  # noqa: SLF001
    return settings


def _checked(found: ResolvedSettings, file: Path | None) -> Settings:
    try:
        return Settings(**found.values)
    except ValidationError as error:
        said = _explain(error, file)
        concerned = any(f"{path}: " in said for path in found.unread)
        hint = "; what is kv://... here can only be checked with its value" if concerned else ""
        raise ConfigError(f"{said}{hint}") from error


def _with_azure(settings: Settings) -> Settings:
    """Give whatever signs in to Azure what is set for all of Azure. Sinks get it when they join the pipeline."""
    shared = settings.azure
    if shared == AzureSettings():
        return settings
    collector = settings.collector.with_default(shared)
    if collector.queue is not None:
        collector = collector.model_copy(update={"queue": collector.queue.with_azure(shared)})
    subscriptions = {name: subscription.with_azure(shared) for name, subscription in settings.subscriptions.items()}
    return settings.model_copy(update={"collector": collector, "subscriptions": subscriptions})


def settings_file(path: Path | None = None) -> Path | None:
    """Return the file that ``load_settings(path)`` reads; None if it reads none."""
    if path is not None:
        return path
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    home = Path.home() / ".blobtide" / "config.yaml"
    return home if home.exists() else None


def _others_can_read(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH) and file.is_file()
    except OSError:
        return False


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every text in plain values, names included, with the path of its group."""
    match value:
        case str():
            yield path, value
        case dict():
            for name, inner in value.items():
                yield from _texts(name, path)
                yield from _texts(inner, f"{path}.{name}".removeprefix("."))
        case list() | tuple() | set():
            for inner in value:
                yield from _texts(inner, path)
        case _:
            pass


def read_groups(file: Path) -> dict[str, Any]:
    """Return the groups in a settings file as plain values; none if it is empty. Raises `ConfigError`."""
    values = read_yaml(file)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected groups such as 'kafka:', got a {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def _explain(error: ValidationError, file: Path | None) -> str:
    where = f"{file} or {PREFIX}... variables" if file else f"{PREFIX}... variables"
    return f"in {where}: {describe_problems(error, Settings)}"
