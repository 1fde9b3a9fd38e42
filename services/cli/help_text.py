"""Helpers for the help texts of subcommands."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return shell commands as the epilog of a help text, which is not wrapped."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])
