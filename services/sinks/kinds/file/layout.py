"""Choose the folders of the file sink's files from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from libs.common.errors import ConfigError
from services.sinks.local_state.layout import FLAT, ByTime, FileLayout, Period

DEFAULT_PERIODS: Final = (Period.DAY, Period.HOUR)
_CHOICES: Final = ((Period.DAY,), DEFAULT_PERIODS)


class LayoutChoice(StrEnum):
    """Where files are placed."""

    FLAT = "flat"
    HIVE = "hive"


def checked_periods(periods: tuple[Period, ...]) -> tuple[Period, ...]:
    """Return `periods`. Raises ValueError unless they are a day or a day and an hour."""
    if periods not in _CHOICES:
        raise ValueError("files are divided by day, or by day and hour")
    return periods


def chosen_layout(choice: LayoutChoice, by_time: ByTime, names: Iterable[str]) -> FileLayout:
    """Return the layout of files with columns named `names`.

    Raises:
        ConfigError: if a column has the same name as a folder level, since a reader sees only one of them.
    """
    if choice is LayoutChoice.FLAT:
        return FLAT
    for name in names:
        if name.partition(".")[0] in set(by_time.periods):
            raise ConfigError(f"rename: {name} is the name of a folder in layout hive; choose another name")
    return by_time
