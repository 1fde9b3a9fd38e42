"""`blobtide record`: what its options mean, and what it leaves in the directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from libs.common.process.service import Stop
from libs.local.ports import free_port
from services.cli.durations import duration
from services.cli.record.recording import Recording
from services.cli.record.source import RecordingAsked, source_of
from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink
from tests.answer_server import AnswerServer, Asked, Reply, answering
from tests.contract.harness import full_disk
from tests.running import WAIT_SECONDS, until
from tests.snapshots import STAMP, archived, zips

ROOT = Path(__file__).parents[3]


class Source:
    """Numbers its answers: a list at `/list`, else an object that holds one. Some fail, and some are no JSON."""

    def __init__(self, server: AnswerServer) -> None:
        self._server = server
        self.fail: set[int] = set()
        self.garble: set[int] = set()
        for path in ("/list", "/o", "/a", "/b"):
            server.replies[path] = self._reply

    @property
    def asked(self) -> list[Asked]:
        """The requests that came."""
        return self._server.asked

    def url(self, path: str) -> str:
        """Return an address."""
        return self._server.url + path

    def _reply(self, request: Asked) -> Reply:
        number = len(self.asked) - 1
        text = f'[{number}, {{"n": {number}.50}}]'
        body = text if request.path == "/list" else f'{{"rows": {text}}}'
        return Reply(b"{" if number in self.garble else body.encode(), 503 if number in self.fail else 200)


@pytest.fixture
def source() -> Iterator[Source]:
    """Run a source."""
    with answering() as server:
        yield Source(server)


def words(url: str, directory: Path, *more: str) -> list[str]:
    """Return a command line that asks often."""
    return ["record", url, "--to", str(directory), "--every", "100ms", *more]


def run(url: str, directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Record in a process of its own, to the end."""
    command = [sys.executable, "-m", "services.cli.main", *words(url, directory, *more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)


@contextmanager
def recording(url: str, directory: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Record in a process of its own, until it is told to end."""
    command = [sys.executable, "-m", "services.cli.main", *words(url, directory, *more)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(directory: Path) -> list[Any]:
    """Return the records in a directory, in the order of its files."""
    return [json.loads(line) for found in zips(directory).values() for line in found]


def asked(url: str = "http://h/p", **changes: Any) -> RecordingAsked:
    """Return options."""
    usual: dict[str, Any] = {
        "url": url,
        "directory": Path("d"),
        "every": 1.0,
        "rotate": 300.0,
        "name": None,
        "wrap": None,
        "merge": False,
        "items": None,
        "headers": (),
        "allow_plaintext_credentials": False,
        "timeout": 5.0,
        "count": None,
        "log_level": "info",
    }
    return RecordingAsked(**usual | changes)


def test_answers_are_recorded_until_there_are_enough(source: Source, tmp_path: Path) -> None:
    """Each answer is a line with its time and its own bytes; failures and what is no JSON in between cost nothing else."""
    source.fail, source.garble = {2}, {4}
    done = run(source.url("/o?x=1"), tmp_path, "--count", "4", "--log-level", "TRACE")
    assert done.returncode == 0, done.stderr
    assert [record["rows"][0] for record in lines(tmp_path)] == [0, 1, 3, 5]
    assert all(
        line.endswith(f',"rows": [{number}, {{"n": {number}.50}}]}}')
        for (_, line), number in zip(archived(tmp_path), (0, 1, 3, 5), strict=True)
    )
    assert [name[STAMP:] for name in zips(tmp_path)] == ["o_json.zip"]
    assert "answers 503" in done.stderr
    assert "bad_json" in done.stderr
    assert '"rows": [5' in done.stderr, "trace shows the data"
    assert "o: 4 snapshots" in done.stderr.splitlines()[-1]


def test_ctrl_c_completes_the_file_and_a_kill_leaves_it_to_the_next(source: Source, tmp_path: Path) -> None:
    """What was recorded before SIGINT is in a zip when the process ends; what was before SIGKILL, when the next one does."""
    with recording(source.url("/list"), tmp_path, "--wrap", "flowinfo") as process:
        until(lambda: len(source.asked) > 2, "the source is not asked")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 0
    answered = len(source.asked)
    assert [record["flowinfo"][0] for record in lines(tmp_path)] == list(range(answered))
    with recording(source.url("/list"), tmp_path, "--wrap", "flowinfo") as process:
        until(lambda: len(source.asked) > answered + 3, "the source is not asked")
        process.kill()
        process.wait(WAIT_SECONDS)
    killed_at = len(source.asked)
    assert len(lines(tmp_path)) == answered
    assert run(source.url("/list"), tmp_path, "--wrap", "flowinfo", "--count", "1").returncode == 0
    numbers = [record["flowinfo"][0] for record in lines(tmp_path)]
    assert numbers == sorted(set(numbers))
    # The last answer before a kill may not have been recorded any more.
    assert set(numbers) >= set(range(killed_at - 1)) | {killed_at}


def test_items_become_records_and_headers_are_sent(source: Source, tmp_path: Path) -> None:
    """Each element that the expression selects is a record; secrets come from files."""
    (tmp_path / "token").write_text("Bearer 12345678\n")
    headers = ("--header", "X-Mine: 1", "--header", f"Authorization: @{tmp_path / 'token'}")
    done = run(source.url("/o"), tmp_path / "out", "--items", "rows[1:]", "--name", "one", "--count", "2", *headers)
    assert done.returncode == 0, done.stderr
    assert [record["n"] for record in lines(tmp_path / "out")] == [0.5, 1.5]
    assert [name[STAMP:] for name in zips(tmp_path / "out")] == ["one_json.zip"]
    assert {(sent.headers["x-mine"], sent.headers["authorization"]) for sent in source.asked} == {("1", "Bearer 12345678")}


def test_recordings_of_different_sources_share_a_directory(source: Source, tmp_path: Path) -> None:
    """Two at a time write files of their own; a second one of the same source says that there is one already."""
    with recording(source.url("/a"), tmp_path) as first:
        until(lambda: len(source.asked) > 1, "the source is not asked")
        assert run(source.url("/b"), tmp_path, "--count", "2").returncode == 0
        twice = run(source.url("/a"), tmp_path, "--count", "2")
        first.terminate()
        assert first.wait(WAIT_SECONDS) == 0
    assert twice.returncode == 1
    assert "another process records a there: give another --name or --to" in twice.stderr
    assert {name[STAMP:] for name in zips(tmp_path)} == {"a_json.zip", "b_json.zip"}


class FullOnce(Stop):
    """Fills the disk when the first answer is recorded, and empties it when somebody waits again."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack
        self.fills = 0

    def wait(self, seconds: float) -> bool:
        """Wait a little."""
        self._stack.close()
        if not self.fills:
            self.fills += 1
            self._stack.enter_context(full_disk(8_192))
        return super().wait(min(seconds, 0.2))


def test_a_full_disk_holds_up_the_source_and_loses_nothing(source: Source, tmp_path: Path) -> None:
    """While nothing can be written nothing is asked; then the answer that was waiting is written, and the next ones."""
    sink = ArchiveSink(ArchiveSettings(directory=tmp_path))
    sink.open()
    with ExitStack() as stack:
        stop = FullOnce(stack)
        Recording(source_of(asked(source.url("/o"), every=0.1)), sink, stop).run(3, lambda _: None)
    sink.close()
    assert stop.fills == 1
    assert [record["rows"][0] for record in lines(tmp_path)] == [0, 1, 2]


def test_a_source_that_does_not_answer_at_first_is_an_error(source: Source, tmp_path: Path) -> None:
    """A wrong address, and an answer of another shape, are said at once, with what to do; the exit code says which it is."""
    away = run(f"http://127.0.0.1:{free_port()}/x", tmp_path / "a")
    assert (away.returncode, len(away.stderr.splitlines())) == (3, 1), away.stderr
    shape = run(source.url("/list"), tmp_path / "b")
    assert (shape.returncode, len(shape.stderr.splitlines())) == (1, 1), shape.stderr
    assert "wrap" in shape.stderr


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (
            {"url": "http://h:80/a%20b/flow info?x=1&y="},
            {"path": "/a%20b/flow%20info", "name": "flow-info", "params": {"x": "1", "y": ""}},
        ),
        ({"url": "https://api.example/"}, {"url": "https://api.example", "path": "/", "name": "api-example"}),
        ({"url": "http://h?token=@/t"}, {"params": {}, "param_files": {"token": Path("/t")}, "name": "h"}),
        (
            {"headers": ("Accept: a:b", "Authorization:@t")},
            {"headers": {"Accept": "a:b"}, "header_files": {"Authorization": Path("t")}},
        ),
        (
            {"name": "n", "wrap": "w", "every": 2.0, "timeout": 3.0},
            {"name": "n", "wrap": "w", "interval_seconds": 2.0, "timeout_seconds": 3.0},
        ),
    ],
)
def test_options_say_which_source(given: dict[str, Any], source: dict[str, Any]) -> None:
    """The address gives path, query and name; whatever is secret is read from files."""
    found = source_of(asked(**given))
    assert {name: getattr(found, name) for name in source} == source


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": "ftp://h/p"}, "URL: give addresses as http"),
        ({"url": "nonsense"}, "URL: give addresses as http"),
        ({"url": "http://u:p@h/p"}, "into a file that --header names"),
        ({"url": "http://h/p?token=1234"}, "the query: others on this machine would see the value of token"),
        ({"url": "http://h/p?x=1&x=2"}, "the query: x is given twice"),
        ({"headers": ("Authorization: Bearer 1",)}, "--header: others on this machine would see the value of Authorization"),
        ({"headers": ("Nothing",)}, "--header: give it as 'NAME: VALUE'"),
        ({"name": "../x"}, "--name: "),
        ({"every": 0.01}, "--every: "),
        ({"wrap": "timestamp"}, "--wrap: "),
        ({"merge": True, "wrap": "x"}, "--merge and --wrap"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], message: str) -> None:
    """The message names the option, and never quotes a secret."""
    with pytest.raises(click.UsageError) as caught:
        source_of(asked(**wrong))
    assert message in str(caught.value)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("5", 5.0), ("5s", 5.0), ("1.5m", 90.0), ("2h", 7_200.0), ("1d", 86_400.0)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """With or without a unit."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-1s", "5 s", "5w", "1e3", "nan", "9999999999s"])
def test_other_durations_are_refused(text: str) -> None:
    """The message says what one looks like."""
    with pytest.raises(click.BadParameter, match="500ms, 5s, 5m or 2h"):
        duration(text)
