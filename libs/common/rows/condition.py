"""A SQL condition over rows, run by an embedded engine (DuckDB) on the columns that it names.

The engine is sealed off: it has no access to files, variables, settings or the network, loads no extensions, has one thread and
bounded memory, and its configuration is locked. It runs only SQL written by `condition_syntax`. Mistakes in a condition are
found when it is parsed. A value that cannot be computed for a row, such as a number from text that is not one, is null for that
row, so that no row can stop the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.rows import condition_syntax as syntax
from libs.common.rows.condition_syntax import BadCondition, Failing, Written
from libs.common.rows.members import Members
from libs.common.rows.row_type import RowType
from libs.common.security.visible import visible_line

MEMORY: Final = "64MB"
SECONDS: Final = 60.0
"""Time limit for one batch. Conditions are bounded, so only one with hundreds of costly operations can reach it."""

_OPENED: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "1",
    "memory_limit": MEMORY,
}
_SET: Final = (
    "SET TimeZone = 'UTC'",
    "SET ieee_floating_point_ops = false",  # x / 0 is null, as in other SQL engines, not infinity
    "SET error_on_division_by_zero = false",
    "SET max_expression_depth = 400",
    "SET lock_configuration = true",
)
_SMALL: Final = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER")
_NEVER_FAILING: Final = frozenset(
    {(given, wanted) for given in (*_SMALL, "BIGINT") for wanted in ("BIGINT", "HUGEINT", "DOUBLE")}
    | {(given, "DOUBLE") for given in ("UBIGINT", "HUGEINT", "DECIMAL", "FLOAT")}
    | {("TINYINT", "SMALLINT"), ("TINYINT", "INTEGER"), ("SMALLINT", "INTEGER"), ("UBIGINT", "HUGEINT")}
)
"""Pairs of types in which the second can hold every value of the first."""
_MICROSECONDS: Final[Mapping[str, int]] = {"s": 1_000_000, "ms": 1_000}
_LAST_MICROSECOND: Final = (1 << 63) - 2  # the next value stands for infinity
_AGAIN_SECONDS: Final = 0.1
_SHOWN: Final = 60  # characters of a condition quoted in a message


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A checked condition over the rows of one type. Only one thread may use it at a time.

    Each batch costs about a millisecond in addition to the cost of its rows, so pass thousands of rows at once if you can.
    """

    text: str
    _written: Written
    _engine: Any  # the engine's connection; its types are loaded with it
    _always: str  # a column for conditions that name none, so that the engine knows the number of rows

    @classmethod
    def parse(cls, text: str, row_type: RowType) -> Condition:
        """Check `text` and prepare it for rows of `row_type`.

        Raises:
            ConfigError: if it is not a condition over the columns of the row type; the message explains why in one line.
        """
        columns = {column.name: column.type for column in row_type.columns}
        try:
            syntax.scan(text)
            engine = _open()
            root = _tree(engine, text, columns)
            written = syntax.write(root, columns, Failing.IS_NULL)
            strict = syntax.write(root, columns, Failing.RAISES)
            if _check(engine, written, strict.sql, row_type.schema):
                written = syntax.write(root, columns, Failing.IS_NULL_IN_CASTS)
            return cls(text, written, engine, row_type.position.offset)
        except BadCondition as reason:
            has = f"; {row_type.name} has {', '.join(columns)}" if str(reason).startswith("unknown column") else ""
            raise ConfigError(f"condition {_short(text)}: {visible_line(str(reason))}{has}") from None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the condition uses."""
        return tuple(self._written.columns)

    def mask(self, rows: pa.Table) -> pa.Array:
        """Return for each row whether the condition holds; never null, since an unknown result counts as false.

        Raises:
            ConfigError: if it exceeds its limit of time or memory, or a text is not UTF-8.
        """
        if not rows.num_rows:
            return pa.array([], pa.bool_())
        seen = {name: _readable(rows.column(name)) for name in self._written.read} | dict(_results(self._written, rows))
        table = pa.table(seen or {self._always: rows.column(self._always)})
        with self._bounded(rows.num_rows):
            found = self._engine.from_arrow(table).project(self._written.sql).to_arrow_table()
        return pc.fill_null(found.column(0).combine_chunks(), fill_value=False)

    @contextmanager
    def _bounded(self, rows: int) -> Iterator[None]:
        import duckdb

        done = threading.Event()
        watch = threading.Thread(target=_stop_after, args=(SECONDS, done, self._engine.interrupt), daemon=True)
        watch.start()
        try:
            yield
        except duckdb.InterruptException as error:
            raise ConfigError(f"condition {_short(self.text)}: it took longer than {SECONDS:.0f} s for {rows} rows") from error
        except duckdb.OutOfMemoryException as error:
            raise ConfigError(f"condition {_short(self.text)}: it needs more than {MEMORY} for {rows} rows") from error
        except duckdb.Error as error:
            raise ConfigError(f"condition {_short(self.text)}: {visible_line(_first_line(str(error)))}") from error
        finally:
            done.set()
            watch.join()


def _stop_after(seconds: float, done: threading.Event, stop: Callable[[], None]) -> None:
    if not done.wait(seconds):
        stop()
        while not done.wait(_AGAIN_SECONDS):  # a single stop is lost if the engine is just about to begin
            stop()


def _open() -> Any:
    import duckdb

    engine = duckdb.connect(":memory:", config=_OPENED)
    for setting in _SET:
        engine.execute(setting)
    return engine


def _tree(engine: Any, text: str, columns: Container[str]) -> syntax.Node:
    # Parsed, never run. Brackets in the text are balanced, so the closing one here matches the opening one.
    query = f"SELECT ({text}\n) FROM rows"  # noqa: S608
    try:
        return syntax.root_of(_described(engine, "json_serialize_sql", query), columns)
    except RecursionError:
        raise BadCondition("it is nested too deeply") from None


def _described(engine: Any, function: str, query: str) -> Any:
    """Return what the engine's `function` says about a query, without running the query."""
    answer: str = engine.execute(f"SELECT {function}(?)", [query]).fetchall()[0][0]
    try:
        return json.loads(answer)
    except ValueError:  # JSON cannot express an infinite number
        raise BadCondition("it has a number that is too large") from None


def _check(engine: Any, written: Written, strict: str, schema: pa.Schema) -> bool:
    """Let the engine bind the condition and run its strict form on a row of nulls, where only invalid constants can fail.

    Return whether the engine adds casts of its own that fail for some values.

    Raises:
        BadCondition: if types do not match.
    """
    import duckdb

    fields = [schema.field(name) for name in schema.names if name in written.read]
    fields += [pa.field(test.result, pa.bool_()) for test in written.tests]
    fields = [pa.field(field.name, field.type) for field in fields] or [pa.field("nothing", pa.bool_())]
    nulls = pa.table([pa.nulls(1, field.type) for field in fields], schema=pa.schema(fields))
    query, strict_query = (f"SELECT {sql} FROM rows" for sql in (written.sql, strict))  # noqa: S608 - of condition_syntax
    try:
        engine.from_arrow(nulls).create("rows")
        fails = _check_types(_described(engine, "json_serialize_plan", query))
        engine.execute(strict_query).fetchall()
    except duckdb.Error as error:
        raise BadCondition(_first_line(str(error))) from error
    finally:
        engine.execute("DROP TABLE IF EXISTS rows")
    return fails


def _check_types(answer: Mapping[str, Any]) -> bool:
    """Refuse anything that is not a condition; return whether the engine added casts that may fail."""
    if answer["error"]:
        raise BadCondition(_first_line(answer["error_message"]))
    root = answer["plans"][0]["expressions"][0]
    if _type_of(root) != "BOOLEAN":
        raise BadCondition(f"it is not true or false but a value of type {_type_of(root)}; compare it with something")
    casts = list(_casts(root))
    for cast in casts:
        _check_cast(cast)
    return any(_may_fail(cast) for cast in casts)


def _casts(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the casts of non-constants that raise an error if they fail."""
    if isinstance(node, list):
        for each in node:
            yield from _casts(each)
    if not isinstance(node, dict):
        return
    is_cast = node.get("type") == "OPERATOR_CAST" and not node["function_data"]["try_cast"]
    if is_cast and node["children"][0]["expression_class"] != "BOUND_CONSTANT":
        yield node
    for part in node.values():
        yield from _casts(part)


def _check_cast(node: Mapping[str, Any]) -> None:
    """Refuse a cast added by the engine that would hide a mistake."""
    value, wanted = node["children"][0], _type_of(node)
    given = _type_of(value)
    if given == "VARCHAR" != wanted:
        raise BadCondition(
            f"{_named(value)} is text and compared with a value of type {wanted}; write the value in single quotes"
        )
    if wanted == "BOOLEAN" != given:
        raise BadCondition(f"{_named(value)} is not true or false but of type {given}; compare it with something")


def _may_fail(node: Mapping[str, Any]) -> bool:
    given, wanted = _type_of(node["children"][0]), _type_of(node)
    return wanted not in (given, "VARCHAR") and (given, wanted) not in _NEVER_FAILING


def _named(value: Mapping[str, Any]) -> str:
    while value.get("type") == "OPERATOR_CAST":
        value = value["children"][0]
    return value["alias"] or "a value"


def _type_of(node: Mapping[str, Any]) -> str:
    if node["expression_class"] == "BOUND_CONJUNCTION":
        return "BOOLEAN"
    kind = node["value"]["type"] if node["expression_class"] == "BOUND_CONSTANT" else node["return_type"]
    return str(kind["id"])


def _first_line(message: str) -> str:
    """Return the engine's message without the error class, the excerpt that marks the place, and the candidates."""
    line = message.strip().split("\n", maxsplit=1)[0]
    return line.partition("Error: ")[2] or line


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with nulls for times that the engine cannot represent: it counts microseconds in 64 bits."""
    a_unit = _MICROSECONDS.get(column.type.unit) if pa.types.is_timestamp(column.type) else None
    if a_unit is None:
        return column
    counts, last = column.cast(pa.int64()), _LAST_MICROSECOND // a_unit
    ends = pc.min_max(counts)
    if -last <= (ends["min"].as_py() or 0) and (ends["max"].as_py() or 0) <= last:
        return column
    return pc.if_else(pc.and_(pc.greater_equal(counts, -last), pc.less_equal(counts, last)), column, None)


def _results(written: Written, rows: pa.Table) -> Iterator[tuple[str, pa.Array | pa.ChunkedArray]]:
    """Yield the columns of results that the engine sees in place of tests."""
    encoded: dict[str, pa.DictionaryArray] = {}
    for test in written.tests:
        column = rows.column(test.column)
        if isinstance(test.values, Members):
            yield test.result, test.values.contain(column)
            continue
        if test.column not in encoded:
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            encoded[test.column] = column.unify_dictionaries().combine_chunks()
        yield test.result, test.values.contain(encoded[test.column])


def _short(text: str) -> str:
    line = visible_line(" ".join(text.split()))
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}...")
