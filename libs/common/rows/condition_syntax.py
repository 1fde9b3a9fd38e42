"""Turn the text of a condition into the SQL that the engine runs, so that only understood syntax is ever run.

The engine's own parser turns the text into a tree without running anything. This module walks the tree, refuses anything that
is not in `condition_language`, and writes new SQL from it: names and texts are quoted here, and the text itself never reaches
the engine as a query. Before parsing, a scan of the text refuses anything that could slow the parser down or mislead it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

import pyarrow as pa

from libs.common.rows import condition_language as language
from libs.common.rows.condition_language import Failure
from libs.common.rows.members import Members
from libs.common.rows.subnets import Networks
from libs.common.suggestions import did_you_mean

LONGEST: Final = 65_536  # characters: a few thousand networks
MOST_OPERATIONS: Final = 1_000  # including operands; bounds the time per row
MOST_PATTERNS: Final = 20  # each may need an automaton of several MB, beyond the engine's memory limit
DEEPEST: Final = 64
DEEPEST_GUARDS: Final = 4  # each may double the time for a row

FEWEST_MEMBERS: Final = 6  # with fewer, the engine compares faster than a lookup takes

IN_SUBNET: Final = "in_subnet"

Node: TypeAlias = Mapping[str, Any]


class BadCondition(Exception):
    """What is wrong with a condition, in a few words; turned into a `ConfigError` where the condition is known."""


class Failing(Enum):
    """What happens to a value that cannot be computed for a row."""

    IS_NULL = "is null"
    IS_NULL_IN_CASTS = "is null, also where the engine casts by itself, as when it compares a date with a time"
    RAISES = "raises"


@dataclass(frozen=True, slots=True)
class ColumnTest:
    """An ``in_subnet``, or a long list of constants after ``in``: the engine sees a column with its results."""

    result: str
    column: str
    values: Networks | Members


@dataclass(slots=True)
class Written:
    """A condition as SQL.

    Attributes:
        sql: one expression.
        columns: columns of the row type that the condition names.
        read: those of them that the SQL names.
        tests: additional columns, of results, that the SQL names.
    """

    sql: str = ""
    columns: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    tests: list[ColumnTest] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Sql:
    """A part of a condition as SQL.

    The engine's TRY returns null for what cannot be computed, and evaluates an expression again to find the failing rows. If
    TRYs are nested, the work doubles with each level. So there are few of them: an expression that is null whenever an operand
    is null does not guard its operands but leaves that to the expression around it.

    Attributes:
        text: one expression.
        fails: whether it may fail for some rows.
        guards: how many levels of TRY are nested in it.
    """

    text: str
    fails: bool = False
    guards: int = 0


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<comment>--|/\*)
      | (?P<open>[(\[])
      | (?P<close>[)\]])
      | (?P<other>[-+*/%<>=!~|&.,:0-9^])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPING: Final = ("e", "b", "x")


def scan(text: str) -> None:
    """Refuse what can be refused without parsing.

    Text that passes has balanced brackets with limited nesting, has no comments or unfinished string literals, and has its
    literals exactly where the engine's parser sees them.
    """
    if len(text) > LONGEST:
        raise BadCondition(f"it has {len(text)} characters; at most {LONGEST} are allowed")
    if not text.strip():
        raise BadCondition("it is empty")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadCondition("it has characters that no text has")
    place, open_brackets, word = 0, "", ""
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None or token.lastgroup == "comment":
            raise BadCondition(_strange(text, place))
        if token.lastgroup == "text" and word.lower() in _ESCAPING:
            raise BadCondition(f"text cannot begin with {word}'; write '...'")
        open_brackets = _brackets(open_brackets, token[0]) if token.lastgroup in ("open", "close") else open_brackets
        word = token[0] if token.lastgroup == "word" else ""
        place = token.end()
    if open_brackets:
        raise BadCondition(f"a {open_brackets[-1]} is never closed")


def _brackets(still_open: str, bracket: str) -> str:
    if bracket in "([":
        if len(still_open) == DEEPEST:
            raise BadCondition(_TOO_DEEP)
        return still_open + bracket
    if not still_open or still_open[-1] + bracket not in ("()", "[]"):
        raise BadCondition(f"a {bracket} closes nothing")
    return still_open[:-1]


_TOO_MANY_GUARDS: Final = (
    f"values that may not be computable stand within one another through more than {DEEPEST_GUARDS} coalesce, case and the like"
)
_TOO_DEEP: Final = f"it is nested too deeply; at most {DEEPEST} levels are allowed"


def _strange(text: str, place: int) -> str:
    found = text[place]
    if found in "\"'":
        return f"a {found} is never closed"
    if found in "‘’‚‛“”„`´":  # noqa: RUF001 - what word processors turn quotes into
        return f"text stands between straight single quotes ('deny'), not between {found}"
    if found == ";":
        return "there must be one condition, without a semicolon"
    if text[place : place + 2] in ("--", "/*"):
        return "comments cannot be used in a condition"
    return f"unexpected character {found!r}"


def root_of(answer: Mapping[str, Any], columns: Container[str]) -> Node:
    """Return the tree of the expression from the engine parser's answer for ``SELECT (<text>) FROM rows``."""
    if answer["error"]:
        said = answer["error_message"]
        near = said.rpartition("near ")[2].strip('"')
        raise BadCondition(f'{said}; write the column in double quotes: "{near}"' if near.lower() in columns else said)
    statements = answer["statements"]
    select = statements[0]["node"] if len(statements) == 1 else {}
    expected: dict[str, Any] = dict.fromkeys(("where_clause", "having", "sample", "qualify"))
    expected |= {"group_expressions": [], "modifiers": []}
    expressions = select.get("select_list", ())
    if len(expressions) != 1 or any(select.get(key, value) != value for key, value in expected.items()):
        raise BadCondition("it must be one condition")
    root: Node = expressions[0]
    return root


def write(root: Node, columns: Mapping[str, pa.DataType], failing: Failing) -> Written:
    """Write the condition with the tree `root` as SQL over `columns`.

    Raises:
        BadCondition: for anything that is not part of the condition language.
    """
    writer = _Writer({name.lower(): (name, kind) for name, kind in columns.items()}, failing)
    writer.written.sql = writer.safe(root)
    return writer.written


class _Writer:
    """Writes one tree."""

    def __init__(self, columns: Mapping[str, tuple[str, pa.DataType]], failing: Failing) -> None:
        self.written = Written()
        self._columns = columns
        self._failing = failing
        self._depth = 0
        self._operations = 0
        self._patterns = 0
        self._writers: Mapping[str, Callable[[Node], _Sql]] = {
            "CONSTANT": lambda node: _Sql(_constant(node)),
            "COLUMN_REF": lambda node: _Sql(self._column(node)),
            "COMPARISON": self._comparison,
            "CONJUNCTION": self._conjunction,
            "OPERATOR": self._operator,
            "BETWEEN": self._between,
            "FUNCTION": self._function,
            "CASE": self._case,
            "CAST": self._cast,
        }

    def safe(self, node: Node) -> str:
        """Write an expression that never fails, for places where a null makes a difference."""
        return self._guarded(self._expression(node)).text

    def _expression(self, node: Node) -> _Sql:
        """Write any expression."""
        write = self._writers.get(node["class"])
        if write is None:
            raise BadCondition(language.refusal(node["class"]))
        if node["alias"]:
            raise BadCondition(f"nothing can be named in a condition: leave out AS {node['alias']}")
        self._count()
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadCondition(_TOO_DEEP)
        written = write(node)
        self._depth -= 1
        return written

    def _guarded(self, sql: _Sql) -> _Sql:
        if not sql.fails or self._failing is Failing.RAISES:
            return sql
        if sql.guards == DEEPEST_GUARDS:
            raise BadCondition(_TOO_MANY_GUARDS)
        return _Sql(f"TRY({sql.text})", guards=sql.guards + 1)

    def _strict(self, form: str, nodes: Iterable[Node], failure: Failure) -> _Sql:
        """Write an expression that is null if one of its operands is; `form` has a {} for each operand."""
        parts = [self._expression(node) for node in nodes]
        return self._combined(form.format(*(part.text for part in parts)), parts, failure)

    def _seeing(self, form: str, nodes: Iterable[Node], failure: Failure) -> _Sql:
        """Write an expression that may have a value even if an operand is null; `form` has a {} for each operand."""
        parts = [self._guarded(self._expression(node)) for node in nodes]
        return self._combined(form.format(*(part.text for part in parts)), parts, failure)

    def _combined(self, text: str, parts: Sequence[_Sql], failure: Failure) -> _Sql:
        fails = failure is Failure.POSSIBLE or any(part.fails for part in parts)
        return _Sql(text, fails, max((part.guards for part in parts), default=0))

    @property
    def _casting(self) -> Failure:
        """Whether converting values of different types to one type may fail."""
        return Failure.POSSIBLE if self._failing is Failing.IS_NULL_IN_CASTS else Failure.NEVER

    def _count(self) -> None:
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise BadCondition(f"it has too many operations; at most {MOST_OPERATIONS} are allowed")

    def _column(self, node: Node) -> str:
        name, kind = self._named(node)
        if not _is_comparable(kind):
            raise BadCondition(f"column {name} cannot be used in a condition: it is of type {kind}")
        _note(name, self.written.read)
        # Small integers would overflow in src_port - dst_port.
        return f"CAST({_quoted(name)} AS BIGINT)" if _is_small(kind) else _quoted(name)

    def _named(self, node: Node) -> tuple[str, pa.DataType]:
        given = ".".join(node["column_names"])
        if given.lower() not in self._columns:
            if language.is_changing(given.lower()):
                raise BadCondition(language.function_refusal(given.lower()))
            known = [name for name, _ in self._columns.values()]
            raise BadCondition(f"unknown column {given}{did_you_mean(given, known)}; text stands in single quotes: '{given}'")
        name, kind = self._columns[given.lower()]
        _note(name, self.written.columns)
        return name, kind

    def _comparison(self, node: Node) -> _Sql:
        operator = language.COMPARISONS.get(node["type"])
        if operator is None:
            raise BadCondition(language.refusal(node["type"]))
        # Guarded operands keep the engine from turning big * 4 = 0 into big = 0, which has a value where big * 4 has none.
        return self._seeing(f"({{}} {operator} {{}})", (node["left"], node["right"]), self._casting)

    def _conjunction(self, node: Node) -> _Sql:
        operator = " AND " if node["type"] == "CONJUNCTION_AND" else " OR "
        return self._seeing(f"({_places(node['children'], operator)})", node["children"], Failure.NEVER)

    def _operator(self, node: Node) -> _Sql:
        operands: Sequence[Node] = node["children"]
        match node["type"]:
            case "OPERATOR_COALESCE" if not operands:
                raise BadCondition("coalesce() needs at least one value")
            case "OPERATOR_NOT":
                return self._strict("(NOT {})", operands, Failure.NEVER)
            case "OPERATOR_IS_NULL":
                return self._seeing("({} IS NULL)", operands, Failure.NEVER)
            case "OPERATOR_IS_NOT_NULL":
                return self._seeing("({} IS NOT NULL)", operands, Failure.NEVER)
            case "COMPARE_IN" if len(operands) > 1:
                return self._in(operands[0], operands[1:])
            case "OPERATOR_COALESCE":
                return self._seeing(f"coalesce({_places(operands)})", operands, self._casting)
            case "OPERATOR_TRY":
                return self._expression(operands[0])  # what cannot be computed is null anyway
            case other:
                raise BadCondition(language.refusal(other.removeprefix("OPERATOR_").removeprefix("COMPARE_")))

    def _in(self, value: Node, candidates: Sequence[Node]) -> _Sql:
        if value["class"] == "COLUMN_REF" and len(candidates) >= FEWEST_MEMBERS:
            column, kind = self._named(value)
            members = _members(kind, candidates)
            if members is not None:
                return _Sql(self._tested(column, members))
        self._operations -= sum(each["class"] == "CONSTANT" for each in candidates)
        return self._seeing(f"({{}} IN ({_places(candidates)}))", (value, *candidates), self._casting)

    def _tested(self, column: str, values: Networks | Members) -> str:
        """Return the name of the column with the results of a test."""
        test = ColumnTest(f"test {len(self.written.tests)}", column, values)
        self.written.tests.append(test)
        return _quoted(test.result)

    def _between(self, node: Node) -> _Sql:
        return self._seeing("({} BETWEEN {} AND {})", (node["input"], node["lower"], node["upper"]), self._casting)

    def _case(self, node: Node) -> _Sql:
        checks = node["case_checks"]
        parts = [part for check in checks for part in (check["when_expr"], check["then_expr"])]
        form = f"(CASE {' '.join(['WHEN {} THEN {}'] * len(checks))} ELSE {{}} END)"
        return self._seeing(form, (*parts, node["else_expr"]), self._casting)

    def _cast(self, node: Node) -> _Sql:
        kind = node["type_expr"]
        name = language.TYPES.get(kind.get("type_name", "").upper())
        if name is None or kind["children"]:
            raise BadCondition(f"cannot cast to {kind.get('type_name', 'this type')}; there are {', '.join(language.TYPES)}")
        cast = "CAST" if self._failing is Failing.RAISES else "TRY_CAST"
        return self._strict(f"{cast}({{}} AS {name})", [node["child"]], Failure.NEVER)

    def _function(self, node: Node) -> _Sql:
        name = node["function_name"].lower()
        arguments = _arguments(node)
        if name == IN_SUBNET:
            return _Sql(self._in_subnet(arguments))
        if not any(name in known for known in (language.FUNCTIONS, language.OPERATORS, language.ESCAPES)):
            raise BadCondition(f"{language.function_refusal(name)}{did_you_mean(name, (*language.FUNCTIONS, IN_SUBNET))}")
        self._check_constants(name, arguments)
        return self._call(name, arguments)

    def _call(self, name: str, arguments: Sequence[Node]) -> _Sql:
        if name in language.ESCAPES:
            return self._strict(f"({{}} {language.ESCAPES[name]} {{}} ESCAPE {{}})", arguments, Failure.POSSIBLE)
        if name in language.OPERATORS:
            form = _places(arguments, f" {name} ") if len(arguments) > 1 else f"{name} {{}}"
            return self._strict(f"({form})", arguments, language.OPERATORS[name])
        failure = Failure.POSSIBLE if language.FUNCTIONS[name] is Failure.POSSIBLE else self._casting
        write = self._seeing if name in language.SEEING_NULLS else self._strict
        return write(f"{language.CALLED.get(name, name)}({_places(arguments)})", arguments, failure)

    def _check_constants(self, name: str, arguments: Sequence[Node]) -> None:
        for number in language.CONSTANT_ARGUMENTS.get(name, ()):
            if number < len(arguments) and arguments[number]["class"] != "CONSTANT":
                raise BadCondition("a pattern, and the part of a time, must be written out as text, not computed")
        if name in language.ESCAPES:
            _check_escape([argument["literal"]["text"] for argument in arguments[1:]])
        self._patterns += name in language.PATTERN_FUNCTIONS
        if self._patterns > MOST_PATTERNS:
            raise BadCondition(f"it has too many regular expressions; at most {MOST_PATTERNS} are allowed")

    def _in_subnet(self, arguments: Sequence[Node]) -> str:
        if len(arguments) < 2 or arguments[0]["class"] != "COLUMN_REF":  # noqa: PLR2004 - a column and a network
            raise BadCondition(
                "in_subnet takes a column and networks, such as in_subnet(src_ip, '10.0.0.0/8', '172.16.0.0/12')"
            )
        column, kind = self._named(arguments[0])
        if not _is_text(kind):
            raise BadCondition(f"in_subnet({column}, ...): the column must hold addresses as text, but it is of type {kind}")
        try:
            networks = Networks.of(_texts(arguments[1:]))
        except ValueError as error:
            raise BadCondition(f"in_subnet({column}, ...): {error}") from error
        return self._tested(column, networks)


def _check_escape(constants: Sequence[str]) -> None:
    """Refuse LIKE with an invalid ESCAPE, which the engine notices only when it evaluates a text."""
    if len(constants) != 2 or len(constants[1]) != 1:  # noqa: PLR2004 - pattern and escape
        raise BadCondition("ESCAPE takes one character: text LIKE 'pattern' ESCAPE '!'")
    pattern, escape = constants
    if escape in re.sub(re.escape(escape) + ".", "", pattern, flags=re.DOTALL):
        raise BadCondition(f"the pattern {pattern!r} ends with its escape character")


def _places(nodes: Sequence[Node], separator: str = ", ") -> str:
    return separator.join(["{}"] * len(nodes))


def _note(name: str, names: list[str]) -> None:
    if name not in names:
        names.append(name)


def _arguments(node: Node) -> list[Node]:
    """Return the arguments of a function call, provided that it is a plain call."""
    plain = not node["filter"] and not node["distinct"] and not node["order_bys"]["orders"]
    if not plain or len(node["qualified_name"]["path"]) != 1 or any(argument["name"] for argument in node["arguments"]):
        raise BadCondition(f"{node['function_name']}: call functions as name(argument, ...)")
    return [argument["expression"] for argument in node["arguments"]]


def _texts(nodes: Iterable[Node]) -> list[str]:
    """Return constant texts, given individually or as lists."""
    found: list[str] = []
    for node in nodes:
        if node["class"] == "FUNCTION" and node["function_name"] == "list_value":
            found += _texts(_arguments(node))
        elif node["type"] == "ARRAY_CONSTRUCTOR":
            found += _texts(node["children"])
        elif node["class"] == "CONSTANT" and node["literal"]["kind"] == "STRING":
            found.append(node["literal"]["text"])
        else:
            raise BadCondition("in_subnet: write networks as text, such as '10.0.0.0/8'")
    if not found:
        raise BadCondition("in_subnet: name at least one network")
    return found


def _members(kind: pa.DataType, nodes: Sequence[Node]) -> Members | None:
    """Return constants as a set; None unless all of them are of the column's own kind, which need no conversion."""
    if any(node["class"] != "CONSTANT" for node in nodes):
        return None
    kinds, texts = {node["literal"]["kind"] for node in nodes}, [str(node["literal"]["text"]) for node in nodes]
    if _is_text(kind) and kinds == {"STRING"}:
        return Members.of_texts(texts, kind)
    if pa.types.is_integer(kind) and kinds == {"INTEGER"} and all(map(language.NUMBERS["INTEGER"].fullmatch, texts)):
        return Members.of_integers([int(text.replace("_", "")) for text in texts], kind)
    return None


def _constant(node: Node) -> str:
    kind, text = str(node["literal"]["kind"]), str(node["literal"]["text"])
    if kind == "STRING":
        return "'" + text.replace("'", "''") + "'"
    if kind == "NULL_LITERAL":
        return "NULL"
    if kind == "BOOLEAN" and text in ("true", "false"):
        return text
    if kind in language.NUMBERS and language.NUMBERS[kind].fullmatch(text):
        return f"({text})"
    raise BadCondition(f"{kind.lower()} constants cannot be used in a condition")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_word(kind))


def _is_word(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type))


def _is_small(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and kind.bit_width < 64)  # noqa: PLR2004 - bits of a BIGINT


def _is_comparable(kind: pa.DataType) -> bool:
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, pa.types.is_date, _is_text)
    return any(test(kind) for test in tests)
