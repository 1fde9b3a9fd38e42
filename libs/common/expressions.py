"""JMESPath expressions, which select values in decoded JSON. The library for them is loaded only if there is one."""

from __future__ import annotations

from typing import Any, Final, Protocol

from libs.common.errors import ConfigError

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
        expression: Expression = jmespath.compile(text)
        _try_out(expression)
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise ConfigError(f"{option} is not a JMESPath expression: {' '.join(str(error).split())}") from error
    return expression


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
