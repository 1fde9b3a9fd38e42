"""JMESPath expressions, which select values in decoded JSON. The library for them is loaded only if there is one.

An expression may name the same value several times, and go on from the result: ``[@, @] | [@, @] | ...``. So what it selects
can be a multiple of what is there, which is limited, because a short expression could otherwise fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final, Protocol

from libs.common.errors import ConfigError

MOST_GROWTH: Final = 1_000
IN_FUNCTIONS: Final = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError)
"""What functions of jmespath raise besides its own errors, for values that they do not check: a text compared with a number, an
infinite one to round, a step of zero."""


class Expression(Protocol):
    """A compiled JMESPath expression."""

    def search(self, value: Any) -> Any:
        """Return what it selects in decoded JSON."""


def compiled(text: str, option: str = "items") -> Expression:
    """Compile a JMESPath expression; `option` is where it comes from.

    Raises:
        ConfigError: if it is wrong, or the library for it is not installed.
    """
    try:
        import jmespath
    except ImportError as error:
        raise ConfigError(f"{option} needs the library jmespath: install blobtide[recorder]") from error
    try:
        expression = jmespath.compile(text)
        growth = _growth(expression.parsed)
        if growth <= MOST_GROWTH:
            _try_out(expression)
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise ConfigError(f"{option} is not a JMESPath expression: {' '.join(str(error).split())}") from error
    if growth > MOST_GROWTH:
        raise ConfigError(f"{option} may select the same value more than {MOST_GROWTH:,} times: name it less often")
    checked: Expression = expression
    return checked


def _growth(node: Mapping[str, Any]) -> int:
    """Return how often a part of an expression may select the same value."""
    inside = [_growth(child) for child in node["children"] if isinstance(child, dict)]  # those of a slice are numbers
    return max(1, sum(inside)) if str(node["type"]).startswith("multi_select") else prod(inside)


def _try_out(expression: Expression) -> None:
    """Raise what is wrong with an expression whatever the answer is, such as a function that does not exist."""
    import jmespath

    try:
        expression.search({})
    except jmespath.exceptions.JMESPathTypeError:
        pass  # it is made for other values than this
    except (jmespath.exceptions.JMESPathError, RecursionError):
        raise
    except IN_FUNCTIONS:
        pass
