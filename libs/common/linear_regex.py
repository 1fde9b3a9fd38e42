"""Regular expressions that take time proportional to the text, whatever the text: for texts from strangers."""

from __future__ import annotations

from typing import Any


def linear_regex(pattern: str) -> Any:
    """Compile a pattern in the syntax of RE2, which has no back-references.

    Raises:
        ValueError: it is none.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"not a regular expression in the syntax of RE2: {reason}") from error
