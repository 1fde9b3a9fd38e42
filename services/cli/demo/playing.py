"""Play commits to storage, whatever the logs: containers, signals, the truth file, and a line that shows progress."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from libs.common.errors import ServerUnreachable
from libs.common.process.service import Stop
from libs.common.settings.storage import StorageAccount
from services.cli.demo.asked import Asked
from services.cli.terminal import say

if TYPE_CHECKING:
    import pyarrow as pa

    from libs.common.azure.storage.writer import BlobWriter
    from libs.demo.player import Commit, Played, Writing

FIRST_CONTACT_SECONDS: Final = 5.0
_OUTAGE_SECONDS: Final = 120.0
_ADVICE: Final = "check that storage (or Azurite) is running, and the endpoint of the connection string or environment"
_SHOW_EVERY_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played.

    Attributes:
        commits: in the order of their times.
        unit: what a row is called.
        truth: the columns of the truth.
        first_minute: counted from 1970.
        minutes: how many; None: endless.
    """

    commits: Iterable[Any]
    unit: str
    truth: pa.Schema
    first_minute: int
    minutes: int | None


def play(asked: Asked, plan: Plan, open_storage: Callable[[], Writing[Any]]) -> None:
    """Make all commits, and say how many."""
    from libs.demo.player import PlaybackPace, Player
    from libs.demo.truth_file import TruthFile

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signals())
        file = stack.enter_context(TruthFile(asked.truth, plan.truth)) if asked.truth else None
        writing = open_storage()
        stack.callback(writing.close)
        progress = _Progress(sys.stderr, plan)
        stack.callback(progress.end)

        def on_commit(commit: Any, played: Played) -> None:
            if file is not None:
                file.add(commit.rows)
            progress.show(commit, played)

        pace = PlaybackPace(asked.speed, never_ahead_of_clock=asked.follow)
        played = Player(writing, pace, on_commit).play(plan.commits, stop)
    there = f", {played.already_there:,} of them already written" if played.already_there else ""
    say(f"{played.commits:,} commits{there}: {played.rows:,} {plan.unit}, {played.bytes / 1e6:,.1f} MB")


def open_account(account: StorageAccount, alias: str, containers: Iterable[str]) -> BlobWriter:
    """Return a writer of an account that has these containers; fail fast and clearly if storage is unreachable.

    Raises:
        ServerUnreachable: storage does not respond.
    """
    from libs.common.azure.retry import RetryPolicy
    from libs.common.azure.storage.api import StorageUnavailable
    from libs.common.azure.storage.writer import BlobWriter

    first = BlobWriter(account, alias, RetryPolicy(deadline=FIRST_CONTACT_SECONDS))
    try:
        for container in containers:
            first.create_container(container)
    except StorageUnavailable as error:
        raise ServerUnreachable(f"{error}; {_ADVICE}") from error
    finally:
        first.close()
    return BlobWriter(account, alias, RetryPolicy(deadline=_OUTAGE_SECONDS))


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    stop = Stop()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A progress line, overwritten in place, on a terminal only."""

    def __init__(self, stream: TextIO, plan: Plan) -> None:
        self._stream = stream if stream.isatty() else None
        self._total = f" of {plan.minutes:,}" if plan.minutes else ""
        self._first = plan.first_minute
        self._unit = plan.unit
        self._shown_at = 0.0

    def show(self, commit: Commit, played: Played) -> None:
        """Show progress, a few times per second."""
        now = time.monotonic()
        if self._stream is None or now - self._shown_at < _SHOW_EVERY_SECONDS:
            return
        self._shown_at = now
        minute = int(commit.due.timestamp()) // 60 - self._first
        amount = f"{played.commits:,} commits  {played.rows:,} {self._unit}  {played.bytes / 1e6:,.1f} MB"
        self._stream.write(f"\r\x1b[K{commit.due:%Y-%m-%d %H:%M}  minute {minute:,}{self._total}  {amount}")
        self._stream.flush()

    def end(self) -> None:
        """End the progress line."""
        if self._stream is not None and self._shown_at:
            self._stream.write("\n")
