"""What ingest knows of blobs, whatever has left memory, against a dictionary."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import Retry
from libs.common.messages.events import CheckpointStatus
from services.ingest.pending import checkpoints, places
from services.ingest.pending.checkpoints import StillLoading
from tests.checkpoint_table import Log

BEGIN = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
NAMES = [f"s/e/logs/{n}/y=2025/m=01/d={day:02}/h=00/m=00/x" for day in (1, 2) for n in range(2)] + ["s/20250101.log"]
WAITS = st.sampled_from([60.0, 3_700.0, 90_000.0, 300_000.0])
STEP = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(CheckpointStatus)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("get"), st.sampled_from(NAMES)),
    st.tuples(st.just("break"), st.sampled_from(NAMES), st.integers(1, 6), st.sampled_from([Retry, StillLoading])),
    st.tuples(st.just("wait"), WAITS),
    st.tuples(st.just("restart")),
    st.tuples(st.just("lose"), st.integers(0, 3)),
)


def attempt(log: Log, name: str, beats: int, error: type[Exception]) -> None:
    """Ask for a blob, and break off after so many beats."""
    left = [beats]

    def beat() -> None:
        left[0] -= 1
        if not left[0]:
            raise error("leave")

    with contextlib.suppress(error):
        log.checkpoints.get(0, name.encode(), beat)


@settings(max_examples=300)
@given(st.lists(STEP, max_size=50), st.booleans(), st.sampled_from([0, 3, 1_000]), st.sampled_from([1, 4, 1_000]))
def test_what_is_known_is_what_was_written_last(steps: list[object], compacts: object, most: int, at_once: int) -> None:
    """In whatever order blobs are read, closed, forgotten, asked for and let go, over restarts and readings that break off."""
    with (
        patch.object(places, "LOOK_EVERY", 3),
        patch.object(places, "RECALLED_AT_ONCE", at_once),
        patch.object(checkpoints, "MOST_HELD", most),
        patch.object(checkpoints, "MOST_AT_HAND", 4),
    ):
        log, expected = Log(now=BEGIN, compacts=bool(compacts)), dict[str, int]()
        for number, step in enumerate(steps):
            match step:
                case ("write", str(name), CheckpointStatus() as status):
                    log.get(name)  # nobody writes without having asked
                    log.write(name, status, number)
                    expected[name] = number
                case ("remove", str(name)):
                    if log.get(name) is not None:
                        log.remove(name)
                    expected.pop(name, None)
                case ("get", str(name)):
                    found = log.get(name)
                    assert (found.next_offset if found else None) == expected.get(name)
                case ("break", str(name), int(beats), type() as error):
                    attempt(log, name, beats, error)
                case ("wait", float(seconds)):
                    log.wait(seconds)
                    log.write("flat", CheckpointStatus.COMPLETE)  # looks for what is over
                case ("restart",):
                    log.checkpoints = log.start()
                case ("lose", int(count)):
                    log.silent = count
                case _:
                    raise AssertionError(step)
        known = {name: found.next_offset for name in NAMES if (found := log.get(name)) is not None}
        assert known == expected
