"""``blobtide completion``: the script with which a shell completes commands, options, choices and names.

It is click's: at each Tab the shell asks `blobtide` itself, so the script need not be printed again for a new version.
"""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from services.cli.help_text import examples
from services.cli.terminal import paint

SHELLS: Final = ("bash", "zsh", "fish")
PROGRAM: Final = "blobtide"
VARIABLE: Final = "_BLOBTIDE_COMPLETE"
"""With which the script asks; click derives this name from that of the program."""


@click.command(
    epilog=examples(
        "blobtide completion bash > ~/.local/share/bash-completion/completions/blobtide",
        "blobtide completion zsh > ~/.zfunc/_blobtide      # with fpath+=~/.zfunc before compinit in ~/.zshrc",
        "blobtide completion fish > ~/.config/fish/completions/blobtide.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, choices, and the names of sinks in the settings."""
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError("click knows the shell")
    paint(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source() + "\n")
