"""What the help of several sub-commands is made of."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return lines of a shell as the end of a help text; they are not wrapped."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])
