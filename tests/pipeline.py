"""The whole pipeline as child processes, for integration and chaos tests: start, kill, wait, and read back what arrived."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import yaml

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.ports import free_port
from services.cli.probe import ask, metrics_of, total
from services.cli.up.supervisor import Child, Program, ProgramState, Supervisor, stop_process
from tests.canaries import assert_silent, leaks, with_canaries

STEP_SECONDS = 0.1
LONGEST_STEP_SECONDS = 1.0
START_SECONDS = 90.0
# What a stop may take is ten; beyond this, on a machine that does much else, it hangs.
STOP_SECONDS = 30.0
POSITION = ("record_offset", "tuple_index")  # of a row in its blob


class Storage(Protocol):
    """A storage account; `LocalAzurite`, or something in front of it."""

    @property
    def connection_string(self) -> str:
        """How to reach it."""


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account by its connection string."""

    connection_string: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline is made of."""

    kafka: KafkaSettings
    topics: TopicSettings
    storage: Storage
    containers: tuple[str, ...]
    directory: Path
    sinks: dict[str, dict[str, Any]]
    monitors: int = 1
    ingesters: int = 1
    parsers: int = 1
    file_sinks: int = 1
    monitor: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    aggregators: int = 0
    aggregator: dict[str, Any] = field(default_factory=dict)
    recorders: int = 0
    recorder: dict[str, Any] = field(default_factory=dict)
    collectors: int = 0
    collector: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)  # of all processes

    @property
    def rows_directory(self) -> Path:
        """Where the file sink writes."""
        return self.directory / "flows"

    def settings(self) -> dict[str, Any]:
        """Return the settings file's content."""
        environment = {
            "storage": {"connection_string": self.storage.connection_string},
            "sources": [{"container": name, **self.source} for name in self.containers],
            "interval_seconds": 0.5,
        }
        settings = {
            "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers, "group_prefix": self.kafka.group_prefix,
                      "session_timeout_ms": 6000, "transaction_timeout_ms": 10000},
            "topics": self.topics.model_dump(),
            "subscriptions": {"test": {"environments": {"local": environment}}} if self.containers else {},
            "monitor": {"discovery_seconds": 1, "reconcile_seconds": 5, **self.monitor},
            "aggregator": self.aggregator,
            "recorder": self.recorder,
            "collector": self.collector,
            "sinks": self.sinks,
        }  # fmt: skip
        return with_canaries(settings)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended after SIGTERM, and how long that took."""

    exit_code: int
    seconds: float


class Pipeline:
    """Processes of one plan under a supervisor that starts again what is killed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._supervisor = Supervisor(list(self._programs()))
        self._watcher: Callable[[], None] = lambda: None
        self._restarts_before = 0

    def _programs(self) -> Iterator[Program]:
        file = self.plan.directory / "config.yaml"
        file.write_text(yaml.safe_dump(self.plan.settings()))
        services = [
            *(("blob-monitor", n) for n in range(self.plan.monitors)),
            *(("ingest", n) for n in range(self.plan.ingesters)),
            *(("parser", n) for n in range(self.plan.parsers)),
            *(("aggregator", n) for n in range(self.plan.aggregators)),
            *(("recorder", n) for n in range(self.plan.recorders)),
            *(("collector", n) for n in range(self.plan.collectors)),
            *((f"sink {name}", n) for name in self.plan.sinks for n in range(self.plan.file_sinks if name == "file" else 1)),
        ]
        for words, ordinal in services:
            yield self._program(words, ordinal, file)

    def _program(self, words: str, ordinal: int, file: Path) -> Program:
        port = free_port()
        name = f"{words.replace(' ', '-')}-{ordinal}"
        return Program(
            name=name,
            argv=(sys.executable, "-m", "services.cli.main", "run", *words.split(), "--config", str(file)),
            env={
                "BLOBTIDE_HTTP__PORT": str(port),
                "BLOBTIDE_INSTANCE__ORDINAL": str(ordinal),
                "BLOBTIDE_LOG__FORMAT": "json",
                **self.plan.environ,
            },
            log=self.plan.directory / f"{name}.log",
            health_port=port,
        )

    def command(self, *words: str) -> str:
        """Run another `blobtide` command with the pipeline's settings and return what it prints; it must succeed."""
        argv = (sys.executable, "-m", "services.cli.main", *words, "--config", str(self.plan.directory / "config.yaml"))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self) -> Iterator[Pipeline]:
        """Run all processes; stop them at the end, and show the logs' ends if something failed."""
        self._supervisor.start()
        try:
            yield self
            assert_silent(self._leaks())
        except BaseException:
            self.show_logs()
            raise
        finally:
            self._supervisor.stop()

    def _leaks(self) -> list[str]:
        """Return what the processes show of secrets on their health ports; their logs are looked through after every test."""
        ports = [child.program.health_port for child in self._supervisor.children]
        texts = (ask(port, path) for port in ports if port is not None for path in ("/metrics", "/readyz"))
        return [leak for text in texts for leak in leaks(text or "")]

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` in every step of every wait."""
        self._watcher = watcher

    def step(self) -> None:
        """Start again what has ended. Call it while waiting."""
        for child in self._supervisor.children:
            child.delay = min(child.delay, 1.0)  # a test kills more often than the supervisor's patience is made for
        self._supervisor.step()
        self._watcher()

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `done`, keeping processes alive.

        Raises:
            AssertionError: with `what`, after `seconds`.
        """
        deadline = time.monotonic() + seconds
        asked = time.monotonic()
        while not done():
            # A question that costs much, such as one that reads topics, is asked less often: it takes time from who works.
            answered = time.monotonic()
            assert answered < deadline, f"after {seconds:.0f} s still not: {what}"
            self.step()
            failed = [child for child in self._supervisor.children if child.state is ProgramState.FAILED]
            assert not failed, f"waiting for {what}, a process refused its settings: {failed}"
            time.sleep(min(max(STEP_SECONDS, 3 * (answered - asked)), LONGEST_STEP_SECONDS))
            asked = time.monotonic()

    def go_on_for(self, seconds: float) -> None:
        """Let time pass, keeping processes alive."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end, seconds + START_SECONDS, "the end of a pause")

    def child(self, name: str) -> Child:
        """Return one process by its name, such as ``ingest-1`` or ``sink-file-0``."""
        return next(child for child in self._supervisor.children if child.program.name == name)

    def kill(self, name: str) -> None:
        """End one process with SIGKILL, whatever it is doing; if it is being started again, as soon as it is there."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process; if it is being started again, as soon as it is there."""
        self.wait(lambda: bool(self.processes(name)), START_SECONDS, f"{name} runs")
        for process in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def wait_until_ready(self, names: Sequence[str] = ()) -> None:
        """Wait until `names`, or all processes, have answered that they are ready."""
        wanted = [self.child(name) for name in names or self.names()]
        self.wait(lambda: all(child.state is ProgramState.READY for child in wanted), 2 * START_SECONDS, "all processes ready")
        self._restarts_before = self._all_restarts()

    def take_out(self, *names: str) -> dict[str, Ended]:
        """Stop processes with SIGTERM, all at the same time, and do not start them again.

        Raises:
            AssertionError: if one has not ended after `STOP_SECONDS`.
        """
        self.wait_until_ready(names)
        began = time.monotonic()
        for name in names:
            self.signal(name, signal.SIGTERM)
            self.child(name).state = ProgramState.STOPPED
        ended: dict[str, Ended] = {}
        while len(ended) < len(names):
            took = time.monotonic() - began
            assert took < STOP_SECONDS, f"{set(names) - set(ended)} have not ended {STOP_SECONDS:.0f} s after SIGTERM"
            for name in names:
                process = self.child(name).process
                if name not in ended and process is not None and process.poll() is not None:
                    ended[name] = Ended(process.returncode, took)
                    stop_process(process)  # closes its pipe
                    print(f"{name} ended {took:.1f} s after SIGTERM")  # noqa: T201
            time.sleep(STEP_SECONDS)
        return ended

    def kill_for_good(self, name: str) -> None:
        """End one process with SIGKILL, and do not start it again."""
        child = self.child(name)
        self.signal(name, signal.SIGKILL)
        child.state = ProgramState.STOPPED
        self.wait(lambda: child.process is None or child.process.poll() is not None, STOP_SECONDS, f"the end of {name}")
        stop_process(child.process)  # closes its pipe

    def put_in(self, name: str) -> None:
        """Start a process that was taken out, or killed for good."""
        self._supervisor._start(self.child(name))

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the service's process, without the guard it runs under; none while it is being started again."""
        guard = self.child(name).process
        if guard is None or guard.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(guard.pid).children()
        return []

    def metric(self, name: str, metric: str) -> float:
        """Return the sum of a metric over its labels, as one process shows it now; 0 while it does not answer."""
        port = self.child(name).program.health_port
        return total(metrics_of(port), metric) if port is not None else 0.0

    def names(self) -> list[str]:
        """Return the names of all processes."""
        return [child.program.name for child in self._supervisor.children]

    def restarts(self) -> int:
        """Return how often a process was started again since all were ready."""
        return self._all_restarts() - self._restarts_before

    def _all_restarts(self) -> int:
        return sum(child.restarts for child in self._supervisor.children)

    def show_logs(self) -> None:
        """Print the end of every log."""
        for child in self._supervisor.children:
            lines = child.program.log.read_text(errors="replace").splitlines()[-15:] if child.program.log.exists() else []
            print(f"--- {child.program.name} ({child.state})", *lines, sep="\n")  # noqa: T201


def read_rows(directory: Path) -> pa.Table:
    """Return all rows of the Parquet files in `directory`, file by file in their order, dictionary columns as plain strings."""
    files = sorted(directory.glob("*.parquet"))
    if not files:
        return pa.table({})
    return plain(ds.dataset(files, format="parquet").to_table())


def plain(table: pa.Table) -> pa.Table:
    """Return `table` with its dictionary columns as plain strings."""
    return pa.table({name: _plain(table[name]) for name in table.column_names})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def row_count(directory: Path) -> int:
    """Count the rows of the Parquet files in `directory` from their footers."""
    return sum(ds.dataset(file, format="parquet").count_rows() for file in directory.glob("*.parquet"))


def assert_in_order(rows: pa.Table) -> None:
    """Check that `rows`, in the order in which they stand at a destination, go up in each blob generation.

    Raises:
        AssertionError: with the first row that does not come after the one before it.
    """
    source = ["blob", "generation"]
    numbered = rows.select([*source, *POSITION]).append_column("at", pa.array(range(rows.num_rows)))
    ordered = numbered.sort_by([(name, "ascending") for name in [*source, "at"]])
    before, after = ordered.slice(0, max(rows.num_rows - 1, 0)), ordered.slice(1)
    same = pa.compute.and_(*(pa.compute.equal(before[name], after[name]) for name in source))
    (offset, index), (next_offset, next_index) = ([part[name] for name in POSITION] for part in (before, after))
    higher_index = pa.compute.and_(pa.compute.equal(next_offset, offset), pa.compute.greater(next_index, index))
    rises = pa.compute.or_(pa.compute.greater(next_offset, offset), higher_index)
    falls = pa.compute.and_(same, pa.compute.invert(rises))
    if pa.compute.any(falls).as_py():
        raise AssertionError(f"{after.filter(falls).to_pylist()[0]} stands behind {before.filter(falls).to_pylist()[0]}")


def assert_same_rows_in_order(rows: pa.Table, truth: pa.Table) -> None:
    """Check that `rows` are exactly `truth`, and that those of each blob stand in the order of the blob.

    Raises:
        AssertionError: as `assert_same_rows` and `assert_in_order`.
    """
    assert_same_rows(rows, truth)
    assert_in_order(rows)


def assert_same_rows(rows: pa.Table, truth: pa.Table, keys: Sequence[str] = ("blob", *POSITION)) -> None:
    """Check that `rows` are exactly `truth`: every row once, every value equal, one generation a blob.

    Raises:
        AssertionError: with the first rows that are missing, double, unexpected or different.
    """
    identities = rows.group_by(list(keys)).aggregate([([], "count_all")])
    double = identities.filter(pa.compute.greater(identities["count_all"], 1))
    assert double.num_rows == 0, f"{double.num_rows} rows arrived more than once, the first: {double.slice(0, 3).to_pylist()}"
    plain_truth = plain(truth)
    missing = plain_truth.select(keys).join(identities, list(keys), join_type="left anti")
    assert missing.num_rows == 0, (
        f"{missing.num_rows} of {truth.num_rows} rows are missing, the first: {missing.slice(0, 3).to_pylist()}"
    )
    assert rows.num_rows == truth.num_rows, f"{rows.num_rows - truth.num_rows} rows arrived that were never written"
    generations = rows.select(["blob", "generation"]).group_by(["blob", "generation"]).aggregate([])
    assert generations.num_rows == len(set(generations["blob"].to_pylist())), "a blob has rows of two generations"
    order = [(key, "ascending") for key in keys]
    got, expected = rows.sort_by(order), plain_truth.sort_by(order)
    for name in plain_truth.column_names:
        if not got[name].combine_chunks().equals(expected[name].combine_chunks().cast(got[name].type)):
            different = [(a, b) for a, b in zip(got[name].to_pylist(), expected[name].to_pylist(), strict=True) if a != b][:3]
            raise AssertionError(f"column {name} differs (got, expected): {different}")
