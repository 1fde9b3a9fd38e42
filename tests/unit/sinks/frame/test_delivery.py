"""How request bodies are delivered: in halves where one is refused, once after a failure, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.bodies import Body, BodyLimits, bodies_of
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.delivery import BodyAccepted, BodyRefused, BodySender, Manner, Reply, Send
from tests.flows import Spot, row, table

SECONDS = 30.0


def bodies(texts: str, number: int = 0, each: int = 100) -> list[Body]:
    """Return rows with one letter each, in bodies of a few."""
    content = [row(Spot(number, at, 0)) for at in range(len(texts))]
    part = Part(number, FLOWS, table(content), (len(content),))
    return list(bodies_of(part, number, [pa.array(list(texts), pa.string())], BodyLimits(each, 1_000_000)))


def text_of(body: Body) -> str:
    """Return the letters of a body."""
    return "".join(body.texts.to_pylist())


@contextmanager
def delivering(send: Send, in_flight: int = 1, *, in_order: bool = False, judges: bool = True) -> Iterator[BodySender]:
    """Open a delivery."""
    delivery = BodySender(send, Manner(in_flight, in_order=in_order, judges=judges))
    delivery.open()
    try:
        yield delivery
    finally:
        delivery.close()


class Receiver:
    """Takes bodies, but none with an x, of a body with a y only the others, and while it is away none with some letters."""

    def __init__(self, most: int = 1_000) -> None:
        self.most = most
        self.asked: list[str] = []
        self.away_for = ""

    def __call__(self, body: Body) -> Reply:
        """Take a body."""
        text = text_of(body)
        self.asked.append(text)
        if set(text) & set(self.away_for):
            raise Retry("away")
        if len(text) > self.most:
            return BodyRefused("too large", ErrorCode.TOO_LARGE)
        if "x" in text:
            return BodyRefused("an x")
        return BodyAccepted(text.count("y"), "a y")


def rejected(outcome: Outcome) -> list[tuple[int, int, str]]:
    """Return what was rejected: part, row and reason."""
    return [(one.part, one.row, one.reason) for one in outcome.rejected]


def test_a_refused_body_is_halved_down_to_the_rows_at_fault() -> None:
    """Rows that are refused alone are rejected; all others are taken once."""
    receiver = Receiver()
    with delivering(receiver) as delivery:
        outcome = delivery.write([[body] for body in (*bodies("aaxaaaaxa"), *bodies("aa", 1))])
    assert rejected(outcome) == [(0, 2, "an x"), (0, 7, "an x")]
    assert outcome.written == 9
    assert sum(len(text) for text in receiver.asked if "x" not in text) == 9


def test_a_body_that_is_too_large_is_halved() -> None:
    """Bodies are halved until they fit, and no row is lost."""
    receiver = Receiver(most=3)
    with delivering(receiver) as delivery:
        assert delivery.write([bodies("abcdefghij")]) == Outcome(10)
    assert sorted(text for text in receiver.asked if len(text) <= 3) == ["ab", "cde", "fg", "hij"]


def test_halves_are_the_same_every_time() -> None:
    """A second delivery of the same rows asks in the same way."""
    asked = []
    for _ in range(2):
        receiver = Receiver(most=5)
        with delivering(receiver) as delivery:
            delivery.write([bodies("abxdefghijklmn")])
        asked.append(receiver.asked)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("content", "in_order", "most"), [("x", False, 1), ("xx", True, 3), ("x" * 500, False, 70), ("x" * 500, True, 140)]
)
def test_a_receiver_that_takes_nothing_is_at_fault(content: str, in_order: bool, most: int) -> None:  # noqa: FBT001
    """When row after row is refused and none taken, the rows wait, after a bounded number of requests."""
    receiver = Receiver()
    with (
        delivering(receiver, in_order=in_order) as delivery,
        pytest.raises(Retry, match="the receiver is assumed to be at fault: an x") as raised,
    ):
        delivery.write([bodies(content, each=1_000)])
    assert raised.value.kind == "refused"
    assert len(receiver.asked) <= most


@pytest.mark.parametrize("content", ["x" * 200 + "a" * 300, "a" * 300 + "x" * 200, "xa" * 200])
def test_many_bad_rows_are_not_the_receivers_fault(content: str) -> None:
    """Bad rows at the beginning, at the end or everywhere are rejected, as long as the receiver takes others."""
    with delivering(Receiver()) as delivery:
        outcome = delivery.write([bodies(content, each=1_000)])
    assert [row for _, row, _ in rejected(outcome)] == [at for at, letter in enumerate(content) if letter == "x"]


def test_what_was_taken_earlier_does_not_speak_for_a_receiver_now() -> None:
    """If a receiver has come to refuse everything, what it took before a failure does not make rows bad."""
    receiver = Receiver()
    groups = [[body] for body in bodies("abcdefgh", each=4)]
    receiver.away_for = "h"
    with delivering(receiver) as delivery:
        with pytest.raises(Retry):
            delivery.write(groups)
        receiver.most = 0
        receiver.away_for = ""
        with pytest.raises(Retry, match="too large"):
            delivery.write(groups)


def test_an_operator_may_let_all_of_them_pass() -> None:
    """A delivery that does not judge rejects all rows that are refused."""
    with delivering(Receiver(), judges=False) as delivery:
        assert len(delivery.write([bodies("x" * 50)]).rejected) == 50


def test_rejected_rows_of_a_partial_success_are_found_by_asking_again() -> None:
    """The receiver says how many it rejects; halves say which, and those of which it follows are not sent."""
    receiver = Receiver()
    with delivering(receiver) as delivery:
        outcome = delivery.write([bodies("aaaaaaay")])
    assert rejected(outcome) == [(0, 7, "a y")]
    assert outcome.written == 7
    assert receiver.asked == ["aaaaaaay", "aaaa", "aa", "a"]


def test_a_partial_success_that_rejects_everything_needs_no_search() -> None:
    """If all rows are rejected it is known which they are."""
    receiver = Receiver()
    with delivering(receiver) as delivery:
        assert len(delivery.write([bodies("yyyy")]).rejected) == 4
    assert receiver.asked == ["yyyy"]


def test_a_search_that_takes_too_long_ends() -> None:
    """Rows among which there are rejected ones, but which ones is not known, are all rejected, and say so."""
    receiver = Receiver(most=10_000)
    content = "ay" * 2_000
    with delivering(receiver) as delivery:
        outcome = delivery.write([bodies(content, each=4_000)])
    assert len(receiver.asked) < 300
    found = {row for _, row, _ in rejected(outcome)}
    assert {at for at, letter in enumerate(content) if letter == "y"} <= found
    assert outcome.written + len(found) == len(content)
    assert any("this may be one of them: a y" in reason for _, _, reason in rejected(outcome))


def test_what_was_taken_before_a_failure_is_not_sent_again() -> None:
    """After a Retry the same rows are written with the bodies that are missing, and counted completely."""
    receiver = Receiver()
    groups = [[body] for body in bodies("abxcdefg", each=4)]
    receiver.away_for = "g"
    with delivering(receiver) as delivery:
        with pytest.raises(Retry):
            delivery.write(groups)
        assert receiver.asked == ["abxc", "ab", "xc", "x", "c", "defg"]
        receiver.asked, receiver.away_for = [], ""
        outcome = delivery.write(groups)
        assert receiver.asked == ["abxc", "xc", "x", "defg"]
        assert (outcome.written, rejected(outcome)) == (7, [(0, 2, "an x")])
        receiver.asked = []
        delivery.write(groups)
        assert receiver.asked == ["abxc", "ab", "xc", "x", "c", "defg"]  # a write that has succeeded is forgotten


def test_a_forgotten_failure_is_sent_again() -> None:
    """When partitions move, what was taken before is no longer known."""
    receiver = Receiver()
    groups = [bodies("a"), bodies("b", 1)]
    receiver.away_for = "b"
    with delivering(receiver) as delivery:
        with pytest.raises(Retry):
            delivery.write(groups)
        delivery.forget()
        receiver.away_for = ""
        assert delivery.write(groups) == Outcome(2)
    assert receiver.asked == ["a", "b", "a", "b"]


def test_a_receiver_may_know_a_body() -> None:
    """A body that the receiver has had before counts as there."""
    with delivering(lambda _: BodyAccepted(already_there=True)) as delivery:
        assert delivery.write([bodies("abc")]) == Outcome(0, 3)


def waits_for(barrier: threading.Barrier) -> Callable[[Body], Reply]:
    """Return a receiver that answers when several bodies have come."""

    def send(body: Body) -> Reply:
        del body
        barrier.wait(SECONDS)
        return BodyAccepted()

    return send


def test_several_bodies_are_in_flight() -> None:
    """As many requests as allowed are made at the same time, and the process shows that it is alive meanwhile."""
    beats: list[None] = []
    with delivering(waits_for(threading.Barrier(3)), in_flight=3) as delivery:
        delivery.while_waiting(lambda: beats.append(None))
        assert delivery.write([[body] for body in bodies("abcdef", each=1)]) == Outcome(6)
    assert beats


def test_bodies_of_a_group_are_in_order() -> None:
    """Groups are delivered at the same time, but the bodies of one in their order, and none after one that fails."""
    receiver = Receiver()
    groups = [bodies(letters, number, each=1) for number, letters in enumerate(("abcd", "efgh", "ijkl"))]
    with delivering(receiver, in_flight=3, in_order=True) as delivery:
        assert delivery.write(groups) == Outcome(12)
        for letters in ("abcd", "efgh", "ijkl"):
            assert "".join(text for text in receiver.asked if text in letters) == letters
        receiver.asked, receiver.away_for = [], "bfj"
        with pytest.raises(Retry):
            delivery.write(groups)
    assert sorted(receiver.asked) == ["a", "b", "e", "f", "i", "j"]


def test_halves_of_a_body_are_in_order_if_that_is_asked_for() -> None:
    """Also rows of a body that is refused are taken in their order."""
    receiver = Receiver(most=3)
    with delivering(receiver, in_order=True) as delivery:
        delivery.write([bodies("abcdexfghijklmnop")])
    assert "".join(text for text in receiver.asked if len(text) <= 3 and "x" not in text) == "abcdefghijklmnop"
