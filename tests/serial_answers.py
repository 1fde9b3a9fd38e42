"""Sources whose answers have numbers, and the check that each answer is recorded as it was, once and in order."""

from __future__ import annotations

from typing import Any

from tests.answer_server import AnswerServer, Asked, Reply

SOURCES = ("a", "c")  # of which each is on a partition of its own


class SerialAnswers:
    """Answers each request for a source with a number that it had in no other, spelled as no JSON library would."""

    def __init__(self, server: AnswerServer) -> None:
        self.given: dict[str, list[bytes]] = {name: [] for name in SOURCES}
        for name in SOURCES:
            server.replies[f"/{name}"] = self._next

    def _next(self, asked: Asked) -> Reply:
        given = self.given[asked.path.removeprefix("/")]
        given.append(b'{"serial": %d, "rate":1.50, "rate":1E3, "\xc3\xa9": "\\u00e9"}' % len(given))
        return Reply(given[-1])


def assert_recorded_once(rows: list[dict[str, Any]], given: list[bytes]) -> None:
    """Check the rows of one source: they have no gap, none is doubled, and each has the bytes of an answer of its own.

    Raises:
        AssertionError: if not.
    """
    assert len({row["run"] for row in rows}) == 1
    assert [row["sequence"] for row in rows] == list(range(len(rows)))
    assert [_answer_in(row) for row in rows] == [given[_serial(row)][1:] for row in rows]
    serials = [_serial(row) for row in rows]
    assert serials == sorted(set(serials))


def _answer_in(row: dict[str, Any]) -> bytes:
    """Return what follows the time in a record: all of the answer but its first brace."""
    rest: bytes = row["record"].encode().partition(b",")[2]
    return rest


def _serial(row: dict[str, Any]) -> int:
    return int(row["record"].partition('"serial": ')[2].partition(",")[0])
