"""Lengths of time as people write them on the command line."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "": 1.0}
_FORM: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smhd]|)")


def duration(text: str) -> float:
    """Return the seconds of a length such as ``500ms``, ``5s``, ``1.5m``, ``2h`` or ``1d``; a number alone is seconds.

    Raises:
        click.BadParameter: it is no length, or none at all. As the type of an option, click names the option.
    """
    found = _FORM.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not seconds:
        raise click.BadParameter(f"{text!r} is no length of time: give one such as 500ms, 5s, 5m or 2h.")
    return seconds
