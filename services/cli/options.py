"""Options shared by several subcommands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import structlog

from libs.common.azure.vault.opening import open_vaults
from libs.common.process.logs import configure_logging
from libs.common.settings import Settings, load_settings
from libs.common.settings.references import Wanted

log = structlog.get_logger(__name__)

F = TypeVar("F", bound=Callable[..., object])

config_option: Callable[[F], F] = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (YAML). Default: $BLOBTIDE_CONFIG, else ~/.blobtide/config.yaml if it exists.",
)


def load(config: Path | None, wanted: Wanted = lambda _: True) -> Settings:
    """Load the settings, with the secrets that key vaults hold for settings that are `wanted`.

    Raises:
        ConfigError, ServerUnreachable: as `load_settings`.
    """
    return load_settings(config, open_vaults, wanted)


def load_logged(config: Path | None, command: str, load: Callable[[Path | None], Settings] = load) -> Settings:
    """Load the settings and configure the log of `command`, which goes to standard error, apart from results.

    Raises:
        ConfigError, ServerUnreachable: as `load`.
    """
    settings = load(config)
    configure_logging(settings.log, service=command)
    for note in settings.notes:
        log.warning(note)
    return settings
