"""How commands print text: without credentials and without control characters.

Only this module prints text for people. Results for programs go through `streams`.
"""

from __future__ import annotations

import traceback
from types import TracebackType

import click

from libs.common.security.redaction import redact
from libs.common.security.visible import visible


def say(text: str, *, err: bool = False) -> None:
    """Print lines."""
    click.echo(visible(redact(text)), err=err)


def show(text: str) -> None:
    """Print text known to be free of credentials without redaction, such as masked settings."""
    click.echo(visible(text), nl=False)


def print_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    """Print the traceback of an uncaught exception where no log is configured."""
    say("".join(traceback.format_exception(kind, error, where)).rstrip("\n"), err=True)


def paint(text: str) -> None:
    """Print text with our own control characters, for a terminal; whatever is not ours in it must have been made visible."""
    click.echo(text, nl=False)


def draw(text: str) -> None:
    """Write text with our own control characters to standard error, for a line overwritten in place."""
    click.echo(text, nl=False, err=True)
