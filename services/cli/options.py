"""Options that several sub-commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

config_option: Callable[[F], F] = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (YAML). Default: $BLOBTIDE_CONFIG, else ~/.blobtide/config.yaml if it exists.",
)
