"""Conditions over rows: what they mean, what they refuse and what bounds them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.rows import condition as module
from libs.common.rows.condition import Condition
from libs.common.rows.condition_language import FUNCTIONS, TYPES
from libs.common.rows.types.flows import FLOWS
from tests.flows import Spot, row, table
from tests.kinds_of_rows import THINGS, things

ROOT = Path(__file__).parents[3]
NOON = 1_777_636_800_000  # 2026-05-01T12:00:00Z


def kept(text: str, *rows: dict[str, Any]) -> list[bool]:
    """Return for which rows a condition holds."""
    held: list[bool] = Condition.parse(text, THINGS).mask(things(rows)).to_pylist()
    return held


def refused(text: str) -> str:
    """Return why a condition is refused."""
    with pytest.raises(ConfigError) as caught:
        Condition.parse(text, THINGS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ("word = 'a'", {"word": "a"}, {"word": "b"}),
        ("WORD = 'a'", {"word": "a"}, {"word": "A"}),
        ("word in ('a', 'b')", {"word": "b"}, {"word": "c"}),
        ("word not in ('a', 'b')", {"word": "c"}, {"word": "a"}),
        ("text = 'it''s'", {"text": "it's"}, {"text": "its"}),
        ("text like 'a%_c'", {"text": "axxc"}, {"text": "ac"}),
        ("text not like 'a%'", {"text": "b"}, {"text": "a"}),
        ("text ilike 'A%'", {"text": "abc"}, {"text": "b"}),
        ("text like '!%%' escape '!'", {"text": "%x"}, {"text": "x"}),
        ("text ~ '^a+$'", {"text": "aa"}, {"text": "ab"}),
        ("text similar to 'a.c'", {"text": "abc"}, {"text": "xabc"}),
        ("regexp_matches(text, 'A', 'i')", {"text": "xa"}, {"text": "b"}),
        ("regexp_extract(text, '([a-z]+)-([0-9]+)', 2) = '7'", {"text": "nic-7"}, {"text": "nic-8"}),
        ("lower(text) = 'é'", {"text": "É"}, {"text": "e"}),
        ("position('b' in text) = 2", {"text": "ab"}, {"text": "ba"}),
        ("left(text, 2) || right(text, 1) = 'abz'", {"text": "abcz"}, {"text": "z"}),
        ("substring(text from 2 for 2) = 'bc'", {"text": "abcd"}, {"text": "bc"}),
        ("trim(text) = 'a'", {"text": " a "}, {"text": "b"}),
        ('"offset" >= 0 and "small" = 1', {"small": 1}, {"small": 2}),
        ("small between 1 and 1023", {"small": 1023}, {"small": 1024}),
        ("small = '22'", {"small": 22}, {"small": 23}),
        ("small - other_small < 0", {"small": 1, "other_small": 65_535}, {"small": 2, "other_small": 1}),
        ("small * other_small > 4000000000", {"small": 65_535, "other_small": 65_535}, {"small": 1, "other_small": 1}),
        ("big / small > 2.4", {"big": 5, "small": 2}, {"big": 4, "small": 2}),
        ("big // small = 2 and big % small = 1", {"big": 5, "small": 2}, {"big": 4, "small": 2}),
        ("abs(-big) > 1_000", {"big": -1_001}, {"big": 1_000}),
        ("big & 2 = 2", {"big": 6}, {"big": 5}),
        ("real > 1.5e0", {"real": 1.6}, {"real": 1.5}),
        ("flag", {"flag": True}, {"flag": False}),
        ("not flag", {"flag": False}, {"flag": True}),
        ("flag is true", {"flag": True}, {"flag": None}),
        ("text is null", {"text": None}, {"text": ""}),
        ("text is not null", {"text": ""}, {"text": None}),
        ("text is distinct from word", {"text": "a", "word": None}, {"text": None, "word": None}),
        ("coalesce(text, 'none') = 'none'", {"text": None}, {"text": "a"}),
        ("greatest(small, other_small) = 3", {"small": 3, "other_small": 1}, {"small": 4, "other_small": 3}),
        ("case when small = 1 then text = 'a' else flag end", {"small": 2, "flag": True}, {"small": 1, "flag": True}),
        ("cast(text as int) > 3", {"text": "4"}, {"text": "3"}),
        ("text::bigint = 5000000000", {"text": "5000000000"}, {"text": "5"}),
        ("time > '2026-05-01T13:59:59+02:00'", {"time": NOON}, {"time": NOON - 1_000}),
        ("time >= timestamp '2026-05-01 12:00'", {"time": NOON}, {"time": NOON - 1}),
        ("time >= timestamp '2026-05-01 14:00+02:00'", {"time": NOON}, {"time": NOON - 1}),
        ("time >= date '2026-05-01'", {"time": NOON}, {"time": NOON - 86_400_000}),
        ("time - interval 1 hour < '2026-05-01 11:30'", {"time": NOON}, {"time": NOON + 3_600_000}),
        ("hour(time) = 12 and extract(minute from time) = 0", {"time": NOON}, {"time": NOON + 60_000}),
        ("date_trunc('hour', time) = time", {"time": NOON}, {"time": NOON + 1}),
        ("isodow(time) = 5", {"time": NOON}, {"time": NOON + 86_400_000}),
        ("in_subnet(address, '10.0.0.0/8')", {"address": "10.255.0.1"}, {"address": "11.0.0.0"}),
        ("in_subnet(word_address, ['10.0.0.0/8', '2001:db8::/32'])", {"word_address": "2001:db8::1"}, {"word_address": "::1"}),
        ("in_subnet(address, array['10.0.0.0/8'], '192.0.2.1')", {"address": "192.0.2.1"}, {"address": "192.0.2.2"}),
        ("not in_subnet(address, '10.0.0.0/8')", {"address": "11.0.0.0"}, {"address": "10.0.0.1"}),
        (
            "word = 'deny' and small in (22, 3389) and in_subnet(address, '10.0.0.0/8')",
            {"word": "deny", "small": 22, "address": "10.1.1.1"},
            {"word": "deny", "small": 22, "address": "1.1.1.1"},
        ),
    ],
)
def test_language(text: str, holds: dict[str, Any], fails: dict[str, Any]) -> None:
    """A condition of the documented language holds for the rows that it describes, and for no others."""
    assert kept(text, holds, fails) == [True, False]


@pytest.mark.parametrize("text", ["small > 1", "not small > 1", "text like 'a%'", "not in_subnet(address, '10.0.0.0/8')"])
def test_null_is_not_selected(text: str) -> None:
    """What is unknown for a row does not hold, whether it is negated or not."""
    assert kept(text, {}) == [False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cast(text as int) = 3", {"text": "many"}),
        ("big * 4 = 0", {"big": 1 << 62}),
        ("big + 1 > 0", {"big": (1 << 63) - 1}),
        ("-big > 0", {"big": -(1 << 63)}),
        ("abs(big) > 0", {"big": -(1 << 63)}),
        ("big / small > 0", {"big": 5, "small": 0}),
        ("big // small > 0", {"big": 5, "small": 0}),
        ("big % small >= 0", {"big": 5, "small": 0}),
        ("time + to_years(cast(big as int)) > time", {"big": 2_000_000_000}),
        ("substring(text, big, big) = 'a'", {"text": "a", "big": (1 << 63) - 1}),
        ("in_subnet(address, '10.0.0.0/8')", {"address": "10.0.0"}),
        ("cast(text as timestamp) > time", {"text": "yesterday"}),
    ],
)
def test_what_cannot_be_computed_is_null(text: str, value: dict[str, Any]) -> None:
    """A value that cannot be computed for one row is null there: the row is not selected by it, and others are as ever."""
    other = {"flag": True}
    assert kept(f"({text}) is null", value) == [True]
    assert kept(f"{text} or flag", value, other) == [False, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("wrd = 'a'", "unknown column wrd; did you mean word?"),
        ("word = deny", "text stands in single quotes: 'deny'"),
        ('word = "deny"', "text stands in single quotes: 'deny'"),
        ("word = ‘deny’", "straight single quotes"),  # noqa: RUF001 - as a word processor writes it
        ("things.word = 'a'", "unknown column things.word"),
        ("items is null", "column items cannot be used in a condition: it is of type list"),
        ("small", "it is not true or false but a value of type BIGINT"),
        ("small and flag", "small is not true or false but of type BIGINT"),
        ("null", "it is not true or false"),
        ("word = 5", "word is text and compared with a value of type INTEGER"),
        ("small = 'ssh'", "Could not convert string 'ssh' to INT64"),
        ("time > 'yesterday'", "invalid timestamp"),
        ("time > 5", "Cannot compare values of type TIMESTAMP WITH TIME ZONE"),
        ("lower(5) = 'x'", "No function matches"),
        ("regexp_matches(text, '(')", "missing )"),
        ("regexp_matches(text, '(a{1000}){1000}')", "invalid repetition size"),
        ("text like word", "must be written out"),
        ("text ~ word", "must be written out"),
        ("date_part(text, time) = 1", "must be written out"),
        ("sum(big) > 3", "sum cannot be used: it needs many rows"),
        ("count(*) > 3", "count cannot be used: it needs many rows"),
        ("row_number() over () = 1", "window functions cannot be used"),
        ("(select true)", "a condition cannot contain a query"),
        ("word in (select 'a')", "a condition cannot contain a query"),
        ("word = any(['a'])", "a condition cannot contain a query"),
        ("word in ['a']", "write: column in (a, b)"),
        ("now() > time", "a row that is read again must be selected again"),
        ("current_date > time", "a row that is read again must be selected again"),
        ("random() > 0.5", "function random cannot be used"),
        ("lower(distinct text) = 'a'", "call functions as name(argument, ...)"),
        ("main.lower(text) = 'a'", "call functions as name(argument, ...)"),
        ("text collate nocase = 'a'", "collations cannot be used"),
        ("text::enum('a') = 'a'", "cannot cast to enum"),
        ("text::int[] is null", "cannot cast to list"),
        ("in_subnet(address)", "in_subnet takes a column and networks"),
        ("in_subnet(lower(address), '10.0.0.0/8')", "in_subnet takes a column and networks"),
        ("in_subnet(small, '10.0.0.0/8')", "the column must hold addresses as text"),
        ("in_subnet(adress, '10.0.0.0/8')", "did you mean address?"),
        ("in_subnet(address, '10.0.0.0/33')", "'10.0.0.0/33' is not a network"),
        ("in_subnet(address, '10.1.2.3/8')", "did you mean '10.0.0.0/8'?"),
        ("in_subnet(address, word)", "write networks as text"),
        ("in_subnet(address, [])", "name at least one network"),
        ("flag; drop table x", "without a semicolon"),
        ("flag -- really", "comments cannot be used in a condition"),
        ("flag) or (true", "a ) closes nothing"),
        ("flag) from other where (true", "a ) closes nothing"),
        ("(flag", "a ( is never closed"),
        ("flag)", "a ) closes nothing"),
        ("word = 'a", "a ' is never closed"),
        ("e'a' = word", "text cannot begin with e'"),
        ("word = $$a$$", "unexpected character '$'"),
        ("word =", "syntax error"),
        ("offset > 5", 'write the column in double quotes: "offset"'),
        ("not " * 70 + "flag", "nested too deeply"),
        ("(" * 100 + "flag" + ")" * 100, "nested too deeply"),
        (" or ".join(["flag is true"] * 600), "too many operations"),
        (f"1 in ({'small, ' * 2_000}1)", "too many operations"),
        (f"concat({chr(39)}a{chr(39)}{', word' * 2_000}) = 'a'", "too many operations"),
        (f"coalesce({'null, ' * 2_000}small) = 1", "too many operations"),
        (f"{'coalesce(' * 5}big{' * big, 1)' * 5} = 1", "more than 4 coalesce"),
        (f"{'coalesce(' * 30}big{' * big, 1)' * 30} = 1", "more than 4 coalesce"),
        ("big = " + "9" * 400, "a number that is too large"),
        ("grouping() = 1", "cannot be used in a condition"),
        (" or ".join(["text ~ 'a'"] * 21), "too many regular expressions"),
        ("flag" + " " * 70_000, "at most 65536"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    """What is wrong with a condition is said when it is parsed, in one line."""
    said = refused(text)
    assert reason in said
    assert said.startswith("condition ")
    assert "\n" not in said


def test_unknown_column_names_the_columns() -> None:
    """An unknown column is answered with the columns of the row type."""
    assert "things has time, word, text" in refused("wrd = 'a'")


@pytest.mark.parametrize(
    "call",
    [
        "getenv('HOME')",
        "read_text('/etc/passwd')",
        "read_csv('/etc/passwd')",
        "read_blob('/etc/passwd')",
        "glob('/etc/*')",
        "sniff_csv('/etc/passwd')",
        "current_setting('threads')",
        "current_user()",
        "getvariable('x')",
        "nextval('x')",
        "pg_read_file('/etc/passwd')",
        "query('select 1')",
        "query_table('rows')",
        "write_log('x')",
        "error('x')",
        "sleep_ms(100)",
        "uuid()",
        "setseed(0.5)",
        "repeat(text, 1000000000)",
        "lpad(text, 1000000000, 'x')",
        "replace(text, 'a', text)",
        "printf('%1000000000d', 1)",
        "list_reduce([1, 2], lambda x, y: x + y)",
        "range(1000000000)",
        "json_serialize_sql('select 1')",
        "json_execute_serialized_sql('x')",
        "duckdb_settings()",
        "unnest([1])",
        "load_extension('x')",
    ],
)
def test_reaching_out_is_refused(call: str) -> None:
    """No function that reads files, variables, settings or clocks, waits, or makes much of little can be called."""
    assert "cannot" in refused(f"{call} is null")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/never-written'",
        "ATTACH '/tmp/never-written.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '1TB'",
        "SET enable_external_access = true",
    ],
)
def test_engine_is_closed_too(query: str) -> None:
    """Were a query to get past all checks, the engine would still not reach files, extensions or its own limits."""
    condition = Condition.parse("flag", THINGS)
    with pytest.raises(duckdb.Error):
        condition._engine.execute(query).fetchall()


def test_python_variables_are_out_of_reach() -> None:
    """The engine does not find tables among the variables of the program."""
    reachable = things([{}])
    with pytest.raises(duckdb.Error, match="does not exist"):
        Condition.parse("flag", THINGS)._engine.execute("SELECT * FROM reachable").fetchall()
    assert reachable.num_rows == 1


def test_slow_conditions_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that takes too long over a batch is stopped and named."""
    monkeypatch.setattr(module, "SECONDS", 0.05)
    slow = Condition.parse(" or ".join(f"text like '%a_%a%b{number}'" for number in range(100)), THINGS)
    rows = things([{"text": "a" * 1_000}]).take(pa.array([0] * 20_000))
    with pytest.raises(ConfigError, match=r"took longer than 0 s for 20000 rows"):
        slow.mask(rows)
    monkeypatch.undo()
    assert slow.mask(things([{"text": "b"}])).to_pylist() == [False]


FURTHEST = {"big": (1 << 63) - 1, "text": "5877642-01-01", "word": "9" * 38, "time": 0}
"""A row with values that are too large for most types."""


@pytest.mark.parametrize(
    "text",
    [
        "big = 0.00000000000000000000000001",
        "big in (0.00000000000000000000000001, 2)",
        "coalesce(big, 0.00000000000000000000000001) > 1",
        "least(big, 0.00000000000000000000000001) > 1",
        "cast(word as hugeint) > 1.5",
        "cast(word as hugeint) between 0.5 and 1",
        "nullif(cast(word as hugeint), 0.5) > 1",
        "(case when flag is null then cast(word as hugeint) else 0.5 end) > 1",
        "cast(text as date) < time",
        "cast(text as date) is distinct from time",
        "time in (cast(text as date))",
        "greatest(cast(text as date), time) > time",
        "case time when cast(text as date) then true else false end",
        "cast(text as timestamp) > cast(text as date)",
    ],
)
def test_what_the_engine_cannot_make_one_type_is_null(text: str) -> None:
    """Values of different types that do not become one type for some row are unknown there, and stop no other row."""
    other = {"flag": True}
    assert kept(f"({text}) or flag", FURTHEST, other) == [False, True]


@pytest.mark.parametrize("time", [-(1 << 63), -(1 << 62), 1 << 62, (1 << 63) - 1, 9_223_372_036_854_776])
def test_times_that_the_engine_cannot_count_are_null(time: int) -> None:
    """A time beyond what the engine can count is unknown, and stops no other row."""
    assert kept("time is null", {"time": time}, {}) == [True, False]
    assert kept("time > '2020-01-01'", {"time": time}, {}) == [False, True]


def test_failing_values_within_one_another() -> None:
    """Values that cannot be computed may stand within one another; a sum is guarded as a whole, not each part of it again."""
    row = {"big": (1 << 63) - 1}
    assert kept(f"{'coalesce(' * 4}big{' * 4, big)' * 4} > 1", row, {"big": 1}) == [True, True]
    assert Condition.parse(f"{' + '.join(['big'] * 50)} > 1", THINGS)._written.sql.count("TRY") == 1


def test_invalid_text_is_named() -> None:
    """Rows with text that is not UTF-8, which no reader gives, are refused as any other failure of the engine is."""
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"\xff\xfe\xc3(")])
    rows = things([{}])
    rows = rows.set_column(rows.schema.get_field_index("text"), "text", text)
    with pytest.raises(ConfigError, match="invalid UTF-8"):
        Condition.parse("lower(text) = 'a'", THINGS).mask(rows)


def test_columns() -> None:
    """A condition says which columns it looks at."""
    assert Condition.parse("small = 1 and in_subnet(address, '10.0.0.0/8')", THINGS).columns == ("small", "address")


def test_condition_without_columns() -> None:
    """A condition that names no column holds for all rows or none."""
    assert kept("true", {}, {}) == [True, True]
    assert kept("1 = 2", {}, {}) == [False, False]


def test_no_rows() -> None:
    """Of no rows, none is selected."""
    assert Condition.parse("flag", THINGS).mask(things([])).to_pylist() == []


def test_chunks_with_dictionaries_of_their_own() -> None:
    """Rows may come in chunks, whose dictionaries number the same words differently."""
    rows = pa.concat_tables(
        [things([{"word": "a", "word_address": "10.0.0.1"}, {"word": "b"}]), things([{"word": "b"}]), things([])]
    )
    assert Condition.parse("word = 'b'", THINGS).mask(rows).to_pylist() == [False, True, True]
    assert Condition.parse("in_subnet(word_address, '10.0.0.0/8')", THINGS).mask(rows).to_pylist() == [True, False, False]


def test_long_batches_and_slices_of_them() -> None:
    """Batches longer than the engine's vectors, and slices that begin anywhere, are looked at row by row like short ones."""
    rows = [
        {"word": (None, "a", "b")[n % 3], "text": (None, "a", "b", "c")[n % 4], "flag": (None, True)[n % 2]}
        for n in range(9_000)
    ]
    table = things(rows)
    condition = Condition.parse("(lower(word) = 'a' or text is null) and flag", THINGS)
    expected = [(row["word"] == "a" or row["text"] is None) and row["flag"] is True for row in rows]
    for start, length in ((0, 9_000), (5, 2_048), (2_053, 4_000), (8_999, 1)):
        assert condition.mask(table.slice(start, length)).to_pylist() == expected[start : start + length]


def test_many_networks() -> None:
    """Thousands of networks may be named."""
    networks = ", ".join(f"'10.{number // 256}.{number % 256}.0/24'" for number in range(2_500))
    assert kept(f"in_subnet(address, [{networks}])", {"address": "10.3.200.9"}, {"address": "10.9.200.9"}) == [True, False]


WORDS = ", ".join(f"'w{number}'" for number in range(3_000))
NUMBERS = ", ".join(map(str, range(10, 3_010)))


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        (f"word in ({WORDS})", {"word": "w2999"}, {"word": "w3000"}),
        (f"text in ({WORDS})", {"text": "w17"}, {"text": "W17"}),
        (f"not (text in ({WORDS}))", {"text": ""}, {"text": None}),
        (f"text not in ({WORDS})", {"text": "w"}, {"text": "w0"}),
        (f"small in ({NUMBERS})", {"small": 3_009}, {"small": 3_010}),
        (f"small not in ({NUMBERS})", {"small": 9}, {"small": None}),
        (f"big in ({NUMBERS}, 9223372036854775808, 1_0)", {"big": 10}, {"big": -10}),
        (f"small in ({NUMBERS}, 80000) and flag", {"small": 10, "flag": True}, {"small": 80_000 - 65_536, "flag": True}),
        (f"coalesce(word in ({WORDS}), flag)", {"word": None, "flag": True}, {"word": "x", "flag": True}),
        (f"word in ({WORDS}, null)", {"word": "w1"}, {"word": "x"}),
        (f"lower(text) in ({WORDS})", {"text": "W1"}, {"text": "x"}),
        (f"real in ({NUMBERS}, 1.5)", {"real": 1.5}, {"real": 1.25}),
        (f"small in ({NUMBERS}, '9')", {"small": 9}, {"small": 8}),
    ],
    ids=lambda value: value.replace(WORDS, "WORDS").replace(NUMBERS, "NUMBERS") if isinstance(value, str) else "",
)
def test_long_lists(text: str, holds: dict[str, Any], fails: dict[str, Any]) -> None:
    """A list of constants may be thousands long, and means what a short one means."""
    assert kept(text, holds, fails) == [True, False]


def test_a_long_list_is_not_the_engines() -> None:
    """The engine would compare one after the other; of constants that need no conversion it sees the result."""
    condition = Condition.parse(f"word in ({WORDS}) or small in ({NUMBERS}) or small in ({NUMBERS}, '9')", THINGS)
    assert condition.columns == ("word", "small")
    assert condition._written.read == ["small"]
    assert condition._written.sql.startswith('("test 0" OR "test 1" OR (CAST("small" AS BIGINT) IN ((10), (11), ')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"word in ({NUMBERS})", "write the value in single quotes"),
        (f"small in ({WORDS})", "w0"),
        (f"words in ({WORDS})", "did you mean word?"),
        (f"items in ({WORDS})", "cannot be used in a condition"),
    ],
    ids=["text", "number", "unknown", "list"],
)
def test_wrong_long_lists_are_refused(text: str, reason: str) -> None:
    """A mistake in a long list is found at the start, as in a short one."""
    assert reason in refused(text)


def test_chunks_of_long_lists() -> None:
    """Chunks with dictionaries of their own, nulls among the words and no rows at all are looked at row by row."""
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int32()), pa.array(["w1", None, "x"]))
    chunks = [things([{"word": "w3"}, {"word": "b"}]), things([{}] * 4), things([])]
    chunks[1] = chunks[1].set_column(1, THINGS.schema.field("word"), words)
    condition = Condition.parse(f"word not in ({WORDS})", THINGS)
    assert condition.mask(pa.concat_tables(chunks)).to_pylist() == [False, True, False, False, False, True]


def test_flows() -> None:
    """The condition of the manual selects flows."""
    rows = table([row(Spot(0, n, 0), action=action) for n, action in enumerate(("deny", "allow", "deny"))])
    condition = Condition.parse("action = 'deny' and dst_port in (443, 22) and in_subnet(src_ip, '10.0.0.0/8')", FLOWS)
    assert condition.mask(rows).to_pylist() == [True, False, True]


def test_engine_is_loaded_when_needed() -> None:
    """Programs that select nothing do not load the engine."""
    code = "import sys, libs.common.rows.select; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_examples_of_the_manual() -> None:
    """Every condition that the reference page shows is one, over flows."""
    page = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    shown = [line for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    shown += re.findall(r"^\| .* \| `(.*)` \|$", page.partition("## Examples")[2], re.MULTILINE)
    assert len(shown) > 10
    for condition in shown:
        Condition.parse(condition, FLOWS)


def test_manual_names_all_functions_and_types() -> None:
    """The reference page names every function and the types to cast to."""
    page = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    named = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]*)`", page))))
    assert set(FUNCTIONS) <= named
    assert {kind.lower() for kind in TYPES.values()} - {"timestamp with time zone"} <= named


def test_functions_exist() -> None:
    """The engine knows every function of the language."""
    names = {name for (name,) in duckdb.connect().execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    assert set(FUNCTIONS) <= names
