"""How commands say something: without credentials, and without anything that a terminal obeys.

Only this module prints what is for people. Results for programs go through `streams`.
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
    """Print what is known to hold no credentials and must stay as it is, such as masked settings."""
    click.echo(visible(text), nl=False)


def print_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    """Print the traceback of what nobody caught, where no log is configured."""
    say("".join(traceback.format_exception(kind, error, where)).rstrip("\n"), err=True)


def draw(text: str) -> None:
    """Write our own control characters to standard error: a line that is written over."""
    click.echo(text, nl=False, err=True)
