"""Append blobs that grow while they are read, on an in-memory container."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from libs.common.messages.events import Stream
from services.ingest.work import GenerationEnd, Skip
from tests.blob_container import EPOCH
from tests.blob_reading import Desk, assert_tiles


def test_an_append_blob_to_which_something_is_appended_all_the_time_is_read() -> None:
    """Also when it never stays the same between look and read; what it had at the look is read, the rest at the next."""
    desk = Desk(stream=Stream.APPLICATION_LOGS)
    written = [b"line 0\nli"]

    def grow(request: str) -> None:
        if request == "read":
            written.append(b"ne %d\nli" % len(written))
            desk.container.put(desk.name, b"".join(written), kind="AppendBlob")

    desk.container.put(desk.name, b"".join(written), kind="AppendBlob")
    desk.container.before = grow
    for _ in range(3):
        desk.read()
        assert desk.skipped == []
    desk.container.before = lambda _: None
    desk.read()
    assert desk.text == b"".join(written)[:-2]
    assert_tiles(desk.segments)
    assert len({s.generation for s in desk.segments}) == 1


@pytest.mark.parametrize("change", ["re-created", "shrunk", "replaced", "closed"])
def test_nothing_of_another_blob_is_taken_for_what_was_appended(change: str) -> None:
    """An append blob that gives way to another one while it is read is looked at again, whatever that one begins with."""
    desk = Desk(stream=Stream.APPLICATION_LOGS)
    desk.container.put(desk.name, b"one\n", kind="AppendBlob")
    desk.read()
    desk.container.put(desk.name, b"one\ntwo\nthr", kind="AppendBlob")
    seen = desk.announce(closed=change == "closed")
    asked = 0

    def replace_it(_: str) -> None:
        nonlocal asked
        asked += 1
        put = partial(desk.container.put, desk.name, kind="AppendBlob")
        match asked, change:
            case 2, _:  # the pinned read
                put(b"one\ntwo\nthree\nfo")
            case 3, "re-created":
                put(b"one\nTWO\nTHR", created=EPOCH + timedelta(hours=1))
            case 3, "replaced":
                put(b"ONE\nTWO\nTHREE\n")
            case 4, "shrunk":
                put(b"one\n")

    desk.container.before = replace_it
    step = desk.step(seen)
    assert step.ended is GenerationEnd.REPLACED if change == "replaced" else step.skipped is Skip.CHANGED
    assert [s.data for s in desk.segments] == [b"one\n"]
    desk.container.before = lambda _: None
    desk.read()
    last = desk.container.blobs[desk.name].data
    assert desk.text == last[: last.rindex(b"\n") + 1]
