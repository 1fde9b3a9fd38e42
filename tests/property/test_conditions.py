"""Conditions over random rows against Python, any split of the rows, and texts that mean harm."""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.rows import condition_language as language
from libs.common.rows.condition import Condition
from libs.common.rows.condition_syntax import BadCondition, scan
from tests.kinds_of_rows import THINGS, things

Row = Mapping[str, Any]
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1

TEXTS = st.text("ab12%_'é\n", max_size=6)
ADDRESSES = st.one_of(
    st.builds(lambda number: str(ipaddress.IPv4Address(number)), st.integers(0x0A000000, 0x0A0003FF)),
    st.builds(lambda number: str(ipaddress.IPv6Address((0x20010DB8 << 96) + number)), st.integers(0, 1 << 100)),
    st.builds(lambda number: f"::ffff:{ipaddress.IPv4Address(number)}", st.integers(0x0A000000, 0x0A0003FF)),
    st.sampled_from(["", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1 ", "::g", "10.0.0.1/32", "a\0b"]),
)
BIGS = st.one_of(st.integers(-5, 5), st.sampled_from([SMALLEST, SMALLEST + 1, LARGEST - 1, LARGEST, 1 << 40]))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "word": st.none() | st.sampled_from(["a", "b", "ab", "1", "é", "it's"]),
            "text": st.none() | TEXTS,
            "small": st.none() | st.integers(0, 5) | st.just(65_535),
            "other_small": st.none() | st.integers(0, 5) | st.just(65_535),
            "big": st.none() | BIGS,
            "flag": st.none() | st.booleans(),
            "address": st.none() | ADDRESSES,
            "word_address": st.none() | ADDRESSES,
        }
    ),
    max_size=30,
)


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL, and what it means for one row: a value, or None for null."""

    sql: str
    value: Callable[[Row], Any]


def strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function null where an argument is."""
    return lambda *values: None if None in values else function(*values)


def quoted(text: str) -> str:
    """Write a text as a constant."""
    return "'" + text.replace("'", "''") + "'"


def bounded(value: int) -> int | None:
    """Return a number if 64 bits hold it."""
    return value if SMALLEST <= value <= LARGEST else None


def column(name: str) -> Expression:
    """Refer to a column."""
    return Expression(name, lambda row: row[name])


def constant(value: int) -> Expression:
    """Write a number."""
    return Expression(str(value), lambda _row: value)


def apply(sql: str, function: Callable[..., Any], *of: Expression) -> Expression:
    """Apply a function to expressions, whose SQL stands at the {} of `sql`."""
    return Expression("(" + sql.format(*(e.sql for e in of)) + ")", lambda row: function(*(e.value(row) for e in of)))


ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}

NUMBER_COLUMNS = st.sampled_from(["small", "other_small", "big"]).map(column)
NUMBERS = st.recursive(
    NUMBER_COLUMNS,
    lambda inner: st.one_of(
        st.builds(
            lambda symbol, left, right: apply(
                f"{{}} {symbol} {{}}", strict(lambda a, b: bounded(ARITHMETIC[symbol](a, b))), left, right
            ),
            st.sampled_from(sorted(ARITHMETIC)),
            inner,
            inner | st.integers(-3, 3).map(constant),
        ),
        st.builds(lambda a, b: apply("coalesce({}, {})", lambda x, y: y if x is None else x, a, b), inner, inner),
        st.sampled_from(["text", "word"]).map(
            lambda name: apply(
                "cast({} as bigint)", lambda t: int(t) if t and re.fullmatch("[12]+", t.strip()) else None, column(name)
            )
        ),
    ),
    max_leaves=5,
)
TEXT_COLUMNS = st.sampled_from(["text", "word"]).map(column)


def like(text: Expression, pattern: str) -> Expression:
    """Match a pattern of LIKE."""
    pieces = {"%": ".*", "_": "."}
    expression = re.compile("".join(pieces.get(c) or re.escape(c) for c in pattern), re.DOTALL)
    return apply(f"{{}} like {quoted(pattern)}", strict(lambda t: expression.fullmatch(t) is not None), text)


def is_in(value: Any, candidates: tuple[Any, ...]) -> bool | None:
    """IN of SQL, for candidates that are not null."""
    return None if value is None else value in candidates


def in_networks(text: str | None, networks: tuple[str, ...]) -> bool | None:
    """Return whether an address is in one of the networks."""
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in ipaddress.ip_network(network) for network in networks)


NETWORKS = st.lists(
    st.one_of(
        st.builds(
            lambda number, bits: str(ipaddress.ip_network((number, bits), strict=False)),
            st.integers(0x0A000000, 0x0A0003FF),
            st.integers(20, 32),
        ),
        st.sampled_from(["2001:db8::/32", "2001:db8:8000::/33", "::/0", "0.0.0.0/0", "192.0.2.1"]),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


def conjoined(a: bool | None, b: bool | None) -> bool | None:  # noqa: FBT001 - SQL's three values
    """AND of SQL."""
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def disjoined(a: bool | None, b: bool | None) -> bool | None:  # noqa: FBT001 - SQL's three values
    """OR of SQL."""
    if a is True or b is True:
        return True
    return None if a is None or b is None else False


def between(value: int | None, low: int | None, high: int | None) -> bool | None:
    """BETWEEN is two comparisons."""
    return conjoined(strict(operator.ge)(value, low), strict(operator.le)(value, high))


ATOMS = st.one_of(
    st.builds(
        lambda symbol, a, b: apply(f"{{}} {symbol} {{}}", strict(COMPARISONS[symbol]), a, b),
        st.sampled_from(sorted(COMPARISONS)),
        NUMBERS,
        NUMBERS | st.integers(-3, 70_000).map(constant),
    ),
    st.builds(lambda a, b, c: apply("{} between {} and {}", between, a, b, c), NUMBERS, NUMBERS, NUMBERS),
    st.builds(
        lambda symbol, a, b: apply(
            f"{{}} {symbol} {{}}", strict(lambda x, y: COMPARISONS[symbol](x.encode(), y.encode())), a, b
        ),
        st.sampled_from(sorted(COMPARISONS)),
        TEXT_COLUMNS,
        TEXT_COLUMNS | TEXTS.map(lambda t: Expression(quoted(t), lambda _row: t)),
    ),
    st.builds(like, TEXT_COLUMNS, TEXTS),
    st.builds(
        lambda a, words: apply(f"{{}} in ({', '.join(map(quoted, words))})", lambda t: is_in(t, tuple(words)), a),
        TEXT_COLUMNS,
        st.lists(TEXTS, min_size=1, max_size=12),
    ),
    st.builds(
        lambda a, numbers: apply(f"{{}} in ({', '.join(map(str, numbers))})", lambda n: is_in(n, tuple(numbers)), a),
        NUMBER_COLUMNS,
        st.lists(
            st.one_of(st.integers(-3, 3), st.integers(-(2**70), 2**70), st.sampled_from([65_535, 65_536, SMALLEST, LARGEST])),
            min_size=1,
            max_size=12,
        ),
    ),
    st.builds(lambda a: apply("{} is null", lambda v: v is None, a), TEXT_COLUMNS | NUMBERS),
    st.builds(lambda a, b: apply("{} is distinct from {}", operator.ne, a, b), TEXT_COLUMNS, TEXT_COLUMNS),
    st.builds(
        lambda name, networks: apply(
            f"in_subnet({{}}, {', '.join(map(quoted, networks))})", lambda t: in_networks(t, networks), column(name)
        ),
        st.sampled_from(["address", "word_address"]),
        NETWORKS,
    ),
    st.just(column("flag")),
)

CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: apply("{} and {}", conjoined, a, b), inner, inner),
        st.builds(lambda a, b: apply("{} or {}", disjoined, a, b), inner, inner),
        st.builds(lambda a: apply("not {}", strict(operator.not_), a), inner),
        st.builds(
            lambda a, b, c: apply("case when {} then {} else {} end", lambda x, y, z: y if x is True else z, a, b, c),
            inner,
            inner,
            inner,
        ),
        st.builds(lambda a: apply("{} is not true", lambda x: x is not True, a), inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, ROWS)
def test_agrees_with_python(condition: Expression, rows: list[dict[str, Any]]) -> None:
    """A condition holds for the rows for which Python says so, row by row, and for no others."""
    expected = [condition.value(row) is True for row in rows]
    assert Condition.parse(condition.sql, THINGS).mask(things(rows)).to_pylist() == expected


@settings(max_examples=60, deadline=None)
@given(CONDITIONS, ROWS, st.lists(st.integers(0, 30), max_size=4))
def test_any_split_selects_the_same(condition: Expression, rows: list[dict[str, Any]], cuts: list[int]) -> None:
    """However rows are cut into batches or chunks, the same ones are selected."""
    table, places = things(rows), [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [table.slice(start, end - start) for start, end in pairwise(places)]
    parsed = Condition.parse(condition.sql, THINGS)
    whole = parsed.mask(table).to_pylist()
    assert [value for part in parts for value in parsed.mask(part).to_pylist()] == whole
    own_dictionaries = [things(part.to_pylist()) for part in parts]
    assert parsed.mask(pa.concat_tables(own_dictionaries)).to_pylist() == whole


def calls(names: Iterable[str], *arguments: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return calls of functions."""
    return st.builds(lambda name, *given: f"{name}({', '.join(given)})", st.sampled_from(sorted(names)), *arguments)


def infix(symbols: Iterable[str], left: st.SearchStrategy[str], right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return two operands with an operator."""
    return st.builds(lambda a, symbol, b: f"({a} {symbol} {b})", left, st.sampled_from(sorted(symbols)), right)


def cast(inner: st.SearchStrategy[str], *kinds: str) -> st.SearchStrategy[str]:
    """Return casts."""
    return st.builds(lambda value, kind: f"cast({value} as {kind})", inner, st.sampled_from(kinds))


ANY_TEXT: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["word", "text", "address", "null", "''", "'a'", "'1'", "'2026-05-01'", "'1e999'"]),
        calls({"lower", "upper", "trim", "ltrim", "rtrim"}, ANY_TEXT),
        calls({"left", "right"}, ANY_TEXT, ANY_NUMBER),
        calls({"substring", "substr"}, ANY_TEXT, ANY_NUMBER, ANY_NUMBER),
        calls({"trim", "concat", "nullif", "coalesce", "greatest"}, ANY_TEXT, ANY_TEXT),
        calls({"regexp_extract"}, ANY_TEXT, st.just("'(a)(b)?'"), st.sampled_from(["0", "1", "2"])),
        infix({"||"}, ANY_TEXT, ANY_TEXT),
        cast(st.one_of(ANY_NUMBER, ANY_TIME, ANY_TEXT), "varchar"),
    )
)
ANY_NUMBER: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["small", "big", "real", "0", "-1", "1.5", "9223372036854775807", "1e300"]),
        calls(language.NUMBER_FUNCTIONS - {"mod"}, ANY_NUMBER),
        calls({"mod", "round", "trunc", "greatest", "least", "nullif", "coalesce"}, ANY_NUMBER, ANY_NUMBER),
        calls({"length"}, ANY_TEXT),
        calls({"strpos"}, ANY_TEXT, ANY_TEXT),
        calls(language.TIME_FUNCTIONS, ANY_TIME),
        calls({"date_part"}, st.sampled_from(["'hour'", "'epoch'", "'week'"]), ANY_TIME),
        infix({"+", "-", "*", "/", "//", "%", "&", "|"}, ANY_NUMBER, ANY_NUMBER),
        cast(st.one_of(ANY_TEXT, ANY_NUMBER), "integer", "bigint", "double", "hugeint"),
        ANY_NUMBER.map(lambda number: f"(- {number})"),
    )
)
ANY_TIME: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["time", "timestamp '2026-05-01'"]),
        calls({"date_trunc"}, st.sampled_from(["'hour'", "'decade'"]), ANY_TIME),
        infix({"+", "-"}, ANY_TIME, calls(language.INTERVAL_FUNCTIONS, cast(ANY_NUMBER, "integer"))),
        cast(ANY_TEXT, "timestamp"),
    )
)
ANY_CONDITION: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.just("flag"),
        infix({"=", "<", ">=", "is distinct from"}, ANY_NUMBER, ANY_NUMBER),
        infix({"=", "<", ">="}, ANY_TEXT, ANY_TEXT),
        infix({"=", "<", ">="}, ANY_TIME, ANY_TIME),
        infix({"like", "ilike", "not like", "similar to", "~"}, ANY_TEXT, st.sampled_from(["'a%'", "'%_a'", "'a+'", "''"])),
        calls({"contains", "starts_with", "ends_with"}, ANY_TEXT, ANY_TEXT),
        st.one_of(ANY_TEXT, ANY_NUMBER, ANY_TIME).map(lambda value: f"({value} is null)"),
        cast(st.one_of(ANY_TEXT, ANY_NUMBER), "boolean"),
        infix({"and", "or"}, ANY_CONDITION, ANY_CONDITION),
    )
)


@settings(max_examples=100, deadline=None)
@given(ANY_CONDITION, ROWS, st.lists(st.floats(), max_size=30), st.integers(-(1 << 62), 1 << 62))
def test_accepted_conditions_never_fail(text: str, rows: list[dict[str, Any]], reals: list[float], time: int) -> None:
    """What is accepted runs over any rows; what is not is refused in one line."""
    for row, real in zip(rows, reals, strict=False):
        row.update(real=real, time=time // 1_000)
    try:
        condition = Condition.parse(text, THINGS)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - refusing is right as well
        return
    mask = condition.mask(things(rows))
    assert len(mask) == len(rows)
    assert mask.null_count == 0


HOSTILE = st.sampled_from(
    [
        *(
            "'",
            '"',
            "(",
            ")",
            "[",
            "]",
            "{",
            ";",
            "--",
            "/*",
            "*/",
            "$$",
            "$1",
            "?",
            "#1",
            "\\",
            "\0",
            "\n",
            "e'",
            "U&'",
            "::",
            ",",
        ),
        *("select", "from", "union", "where", "exists", "over ()", "filter", "lambda x:", "->", "as x", "collate nocase", "*"),
        *("read_text('/etc/passwd')", "getenv('HOME')", "current_setting('x')", "random()", "now()", "repeat('a', 1000000000)"),
        *(
            "word",
            "small",
            "flag",
            "true",
            "and",
            "or",
            "not",
            "=",
            "in",
            "'a'",
            "1",
            "in_subnet(",
            "null",
            "case",
            "end",
            "é",
            "\u2018",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(HOSTILE | st.text(max_size=3), max_size=12), st.sampled_from(["", " "]))
def test_any_text_is_parsed_or_refused(pieces: list[str], between_pieces: str) -> None:
    """Any text is a condition, or is refused with one line."""
    try:
        condition = Condition.parse(between_pieces.join(pieces), THINGS)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - refusing is right as well
    else:
        assert not re.search(
            r"read_text|getenv|current_setting|random|now|repeat|select", condition._written.sql, re.IGNORECASE
        )


@given(st.lists(st.sampled_from(["'", '"', "(", ")", "[", "]", "a", " ", "=", "--", "e"]), max_size=20))
def test_scan_leaves_balanced_brackets(pieces: list[str]) -> None:
    """What the scan lets pass is balanced outside of its quotes, so that it cannot close the bracket it stands in."""
    text = "".join(pieces)
    try:
        scan(text)
    except BadCondition:
        return
    plain = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", text)
    while (shorter := plain.replace("()", "").replace("[]", "")) != plain or (
        shorter := re.sub(r"[^\[\]()]", "", plain)
    ) != plain:
        plain = shorter
    assert not plain
    assert "--" not in re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", text)


@pytest.mark.parametrize(
    "text", ["(" * 60_000, "[" * 60_000, "a" * 60_000, "a " * 30_000, "'" * 60_000, "not " * 15_000, "a=" * 30_000]
)
def test_long_texts_are_refused_soon(text: str) -> None:
    """A long text cannot keep the parser busy: it is refused, in far less time than the test has."""
    with pytest.raises(ConfigError):
        Condition.parse(text, THINGS)
