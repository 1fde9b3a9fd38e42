"""Lines of JSON as loggers might write them: any members in any spelling, and what a reader that knows JSON makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

Members: TypeAlias = "list[tuple[str, Value]]"
"""The members of an object as they are written: names may repeat."""
Value: TypeAlias = "Members | tuple[Value, ...] | str | Word"
Leaves: TypeAlias = dict[tuple[str, ...], Any]


@dataclass(frozen=True)
class Word:
    """A number, true, false or null, as it is written."""

    text: str


class Number(str):
    """A number as it is written, which is no string."""

    __slots__ = ()


WORDS: Final = (
    "0", "-0", "7", "-1", "42", "1.5", "-0.001", "1e3", "1E-7", "1.25e+10", "404", "65536", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "1777636800", "1777636800123",
    "1e400", "0.1000000000000000055511151231257827", "true", "false", "null",
)  # fmt: skip
NAMES: Final = (
    "message", "msg", "level", "time", "ts", "@timestamp", "logger", "stream", "kubernetes", "pod_name", "logs",
    "thrown", "name", "contextMap", "timeMillis", "instant", "epochSecond", "nanoOfSecond", "requestFirstLine",
    "status", "method", "path", "a", "b", "a.b", "", " ", "Message", "error", "error.type", "type", 'q"', "\\",
    "\u00e4", "\U0001f600", "tab\t", "host", "service", "thread_id", "duration_ms", "labels",
)  # fmt: skip
STRINGS: Final = (
    "", "-", "INFO", "warn", "GET /a?b=c HTTP/1.1", "GET", "/a/b", 'a: "b"', "{}", "[1,2]", "},{", '\\"', "\\",
    "\\\\", "null", "12", "\u2028", "line\nline", "\x00", "\x7f", "\ud7ff", "2026-05-01T12:00:00Z",
    "2026-05-01 12:00:00,5", "2026-05-01", "[01/May/2026:12:00:00 +0000]", "x" * 40,
)  # fmt: skip
KNOWN: Final[tuple[tuple[str, Value], ...]] = (
    ("resourceId", "/r"), ("category", "AuditEvent"), ("operationName", "o"), ("callerIpAddress", "192.0.2.7"),
    ("properties/msg", "m"),
    ("@timestamp", "2026-05-01T12:00:01.310221Z"), ("stream", "stdout"), ("_p", "F"), ("kubernetes/pod_name", "p"),
    ("kubernetes/container_name", "c"), ("kubernetes/docker_id", "d"), ("kubernetes/host", "n"),
    ("kubernetes/pod_ip", "10.0.0.1"), ("logs/requestFirstLine", "GET /a?b=c HTTP/1.1"), ("logs/status", "200"),
    ("logs/bytes", Word("77")), ("logs/responseTime", "12"), ("logs/remoteHost", "h"), ("logs/localServerName", "s"),
    ("logs/cache status", "hit"), ("logs/referer", "r"), ("logs/identdUserName", "i"), ("logs/remoteUser", "u"),
    ("logs/level", "WARN"), ("logs/message", "m"), ("logs/loggerName", "l"), ("logs/thread", "t"),
    ("logs/threadId", Word("7")), ("logs/thrown/name", "E"), ("logs/thrown/message", "e"),
    ("logs/thrown/extendedStackTrace", ("f",)), ("logs/contextMap/requestLine", "POST / HTTP/2"),
    ("logs/contextMap/statusCode", "404"), ("logs/contextMap/remoteHost", "h"),
    ("logs/contextMap/correlationId", "c-1"), ("logs/contextMap/processMillis", "5"),
    ("logs/contextMap/cacheStatus", "miss"), ("message", "m"), ("level", "info"), ("method", "GET"), ("path", "/p?q"),
    ("cache", "miss"), ("trace/id", "t"), ("status", Word("500")), ("process/thread/name", "main"),
    ("error/message", "e"), ("request", "PUT /x HTTP/1.0"), ("server_name", "s"), ("user", "u"), ("request_id", "r-1"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("logs/requestId", "r-2"),
    ("logs/b3", "80f198ee56343ba8-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"), ("response_time", Word("12")),
    ("duration_us", Word("77")), ("elapsed_ms", Word("4.5")), ("request_time", "0.031"),
)  # fmt: skip
TEXTS: Final = st.sampled_from(STRINGS) | st.text(max_size=12)
ESCAPES: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: json.dumps(text, ensure_ascii=False),
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False).replace("/", "\\/"),
    lambda text: '"' + "".join(f"\\u{unit:04X}" for unit in _units(text)) + '"',
)
BLANKS: Final = ("", "", "", " ", "\t", "  ", " \t ", "\r")


def _units(text: str) -> Iterator[int]:
    data = text.encode("utf-16-be")
    return (int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))


def values(depth: int = 3) -> st.SearchStrategy[Value]:
    """Return values nested at most so deep."""
    simple: st.SearchStrategy[Value] = TEXTS | st.sampled_from(WORDS).map(Word)
    if not depth:
        return simple
    return st.one_of(simple, simple, simple, members(depth - 1), st.lists(values(depth - 1), max_size=3).map(tuple))


def members(depth: int = 3) -> st.SearchStrategy[Members]:
    """Return the members of an object."""
    return st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=4), values(depth)), max_size=6)


@st.composite
def known(draw: st.DrawFn) -> Members:
    """Return some of the members that collectors and loggers write, most of them with what they usually hold."""
    found: dict[str, Any] = {}
    for path, usual in draw(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=9, unique=True)):
        *above, name = path.split("/")
        inner = found
        for one in above:
            inner = inner.setdefault(one, {})
        inner.setdefault(name, draw(st.just(usual) if draw(st.integers(0, 4)) else values(1)))
    return _pairs(found)


def _pairs(value: dict[str, Any]) -> Members:
    return [(name, _pairs(one) if isinstance(one, dict) else one) for name, one in value.items()]


@st.composite
def written(draw: st.DrawFn, given: Members, *, is_usual: bool = False) -> bytes:
    """Return an object as a line without its end; `is_usual` without blanks at unusual places."""
    spelled = draw(st.sampled_from(ESCAPES))
    blank = draw(st.sampled_from(("", " "))) if is_usual else draw(st.sampled_from(BLANKS))

    def text_of(value: Value) -> str:
        inner, gap = ("", blank) if is_usual else (blank, blank)
        if isinstance(value, Word):
            return value.text
        if isinstance(value, str):
            return spelled(value)
        if isinstance(value, tuple):
            return f"[{inner}{f'{inner},{gap}'.join(text_of(one) for one in value)}{inner}]"
        pairs = f"{inner},{gap}".join(f"{spelled(name)}{inner}:{gap}{text_of(one)}" for name, one in value)
        return f"{{{inner}{pairs}{inner}}}"

    return text_of(given).encode()


def varied(value: Value) -> st.SearchStrategy[Value]:
    """Return values of the same shape with other contents."""
    if isinstance(value, str):
        return TEXTS
    if isinstance(value, Word):
        return st.sampled_from(WORDS).map(Word)
    if isinstance(value, tuple):
        return st.lists(values(0), max_size=3).map(tuple)
    return varied_members(value)


def varied_members(given: Members) -> st.SearchStrategy[Members]:
    """Return members with the same names, and other contents of the same kinds."""
    return st.tuples(*(st.tuples(st.just(name), varied(one)) for name, one in given)).map(list)


def read(text: bytes | str) -> dict[str, Any] | None:
    """Return an object with its numbers as written; None if it is none."""
    try:
        found = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_number)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _no_number(text: str) -> None:
    raise ValueError(text)


def leaves(value: dict[str, Any], above: tuple[str, ...] = ()) -> Leaves:
    """Return all members that are no objects, by their paths."""
    found: Leaves = {}
    for name, one in value.items():
        if isinstance(one, dict):
            found |= leaves(one, (*above, name))
        else:
            found[*above, name] = one
    return found


def read_or_none(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line is, also if it is not even text."""
    try:
        return read(line.decode())
    except (UnicodeDecodeError, RecursionError):
        return None
