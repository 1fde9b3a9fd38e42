"""What a condition may contain: functions, types, comparisons. Anything not listed here is refused by name.

Everything listed depends only on its arguments, needs time and memory in proportion to them, and gives the same result whenever
a row is seen again. So there are no clocks, random numbers, settings, files or aggregates, and nothing that builds long texts
from short ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Failure(Enum):
    """Whether a function can fail for some values; if it does, its result is null."""

    NEVER = "never"
    POSSIBLE = "possible"


TEXT_FUNCTIONS: Final = frozenset(
    {
        "lower",
        "upper",
        "length",
        "concat",
        "contains",
        "starts_with",
        "ends_with",
        "strpos",
        "position",
        "trim",
        "ltrim",
        "rtrim",
    }
)
PART_FUNCTIONS: Final = frozenset({"substring", "substr", "left", "right"})
PATTERN_FUNCTIONS: Final = frozenset({"regexp_matches", "regexp_full_match", "regexp_extract"})
NUMBER_FUNCTIONS: Final = frozenset({"abs", "sign", "floor", "ceil", "round", "trunc", "mod"})
TIME_FUNCTIONS: Final = frozenset(
    {
        "year",
        "quarter",
        "month",
        "week",
        "day",
        "dayofyear",
        "dayofweek",
        "isodow",
        "hour",
        "minute",
        "second",
        "epoch",
        "epoch_ms",
    }
)
TIME_PART_FUNCTIONS: Final = frozenset({"date_part", "date_trunc"})
INTERVAL_FUNCTIONS: Final = frozenset(
    {"to_years", "to_months", "to_weeks", "to_days", "to_hours", "to_minutes", "to_seconds", "to_milliseconds"}
)
ANY_FUNCTIONS: Final = frozenset({"greatest", "least", "nullif"})

FUNCTIONS: Final[Mapping[str, Failure]] = MappingProxyType(
    dict.fromkeys(TEXT_FUNCTIONS | PATTERN_FUNCTIONS | ANY_FUNCTIONS, Failure.NEVER)
    | dict.fromkeys(PART_FUNCTIONS | NUMBER_FUNCTIONS | TIME_FUNCTIONS, Failure.POSSIBLE)
    | dict.fromkeys(TIME_PART_FUNCTIONS | INTERVAL_FUNCTIONS, Failure.POSSIBLE)
)

SEEING_NULLS: Final = ANY_FUNCTIONS | {"concat"}
"""Functions that may return a value even if an argument is null; all others return null then."""

CALLED: Final[Mapping[str, str]] = MappingProxyType({"position": "strpos"})
"""Functions with special syntax (``position('a' in rule)``), and their equivalents with plain syntax."""

OPERATORS: Final[Mapping[str, Failure]] = MappingProxyType(
    dict.fromkeys(("~~", "!~~", "~~*", "!~~*", "||"), Failure.NEVER)
    | dict.fromkeys(("+", "-", "*", "/", "//", "%", "&", "|"), Failure.POSSIBLE)
)
"""Operators by the parser's names; ``~~`` is LIKE, ``~~*`` is ILIKE."""

ESCAPES: Final[Mapping[str, str]] = MappingProxyType(
    {"like_escape": "LIKE", "not_like_escape": "NOT LIKE", "ilike_escape": "ILIKE", "not_ilike_escape": "NOT ILIKE"}
)
"""LIKE with ESCAPE, by the parser's names."""

COMPARISONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "COMPARE_EQUAL": "=",
        "COMPARE_NOTEQUAL": "<>",
        "COMPARE_LESSTHAN": "<",
        "COMPARE_GREATERTHAN": ">",
        "COMPARE_LESSTHANOREQUALTO": "<=",
        "COMPARE_GREATERTHANOREQUALTO": ">=",
        "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
        "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
    }
)

CONSTANT_ARGUMENTS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        **dict.fromkeys(PATTERN_FUNCTIONS, frozenset({1, 2, 3})),
        **dict.fromkeys(("~~", "!~~", "~~*", "!~~*"), frozenset({1})),
        **dict.fromkeys(ESCAPES, frozenset({1, 2})),
        **dict.fromkeys(TIME_PART_FUNCTIONS, frozenset({0})),
    }
)
"""Arguments that must be constants, so that a pattern is compiled once and a mistake in it is found at the start."""

# A time without a zone is UTC, like all times in rows; the engine's own TIMESTAMP would drop a given zone.
_TIME: Final = "TIMESTAMP WITH TIME ZONE"
TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in ("BOOLEAN", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "VARCHAR", "DATE", "INTERVAL")}
    | {"BOOL": "BOOLEAN", "INT": "INTEGER", "FLOAT": "DOUBLE", "TEXT": "VARCHAR", "STRING": "VARCHAR"}
    | dict.fromkeys(("TIMESTAMP", "DATETIME", "TIMESTAMPTZ", _TIME), _TIME)
)
"""Types that a condition may cast to, and the engine's names for them."""

NUMBERS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {"INTEGER": re.compile(r"-?\d[\d_]*"), "NUMERIC": re.compile(r"-?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][+-]?\d+)?")}
)
"""Types of numeric literals, and how they are written."""

_AGGREGATES: Final = frozenset({"any_value", "avg", "count", "count_star", "first", "last", "max", "median", "min", "sum"})
_CHANGING: Final = frozenset(
    {"now", "today", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)

_NOT_ROWWISE: Final = "a condition looks at one row at a time"
_REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SUBQUERY": "a condition cannot contain a query",
        "WINDOW": f"window functions cannot be used: {_NOT_ROWWISE}",
        "STAR": "* cannot be used in a condition: name the columns",
        "LAMBDA": "functions cannot be written in a condition",
        "COLLATE": "collations cannot be used: compare lower(...) instead",
    }
)


def refusal(node_class: str) -> str:
    """Return why a condition cannot contain this class of syntax."""
    return _REFUSED.get(node_class, f"{node_class.lower().replace('_', ' ')} cannot be used in a condition")


def is_changing(name: str) -> bool:
    """Return whether this name refers to something that changes by itself, such as the current time."""
    return name in _CHANGING


def function_refusal(name: str) -> str:
    """Return why a function cannot be used."""
    if name in _CHANGING:
        return f"{name} cannot be used: a row that is read again must be selected again"
    if name in _AGGREGATES:
        return f"{name.removesuffix('_star')} cannot be used: it needs many rows, and {_NOT_ROWWISE}"
    if name in ("list_value", "row", "struct_pack"):
        return "lists can only stand in in_subnet; otherwise write: column in (a, b)"
    return f"function {name} cannot be used in a condition"
