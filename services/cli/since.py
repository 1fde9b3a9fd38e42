"""Times since which a command reads, as ages or moments."""

from __future__ import annotations

import re
import time
from typing import Final

from libs.common.errors import ConfigError
from services.cli.moments import moment_of

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def milliseconds_of(option: str, text: str) -> int:
    """Parse the value of `option`: ``0``, an age such as ``10m``, or RFC 3339; return milliseconds since 1970.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "0":
        return 0
    if age := re.fullmatch(r"(\d+)([smhd])", text):
        return int((time.time() - int(age[1]) * _UNITS[age[2]]) * 1000)
    try:
        return int(moment_of(text).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{option} {text}: give an age such as 10m, or a time such as 2026-05-01T12:00:00Z") from error
