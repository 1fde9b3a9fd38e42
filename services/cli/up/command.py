"""``blobtide up``: run everything on this machine.

Kafka, topics, and every service and sink as child processes; with ``--demo`` also Azurite and logs that grow while you
watch, and with ``--mock`` an Azure whose configuration changes. Data is kept in the data directory between runs. No child
outlives this process, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import click
import structlog
from click.core import ParameterSource

from libs.common.errors import BlobtideError, ConfigError
from libs.common.kafka.group.group_probe import GroupProbe
from libs.common.kafka.readers.follow import Follower, Newest
from libs.common.kafka.topics.admin import apply_topics, load_topic_specs
from libs.common.process.service import Stop
from libs.common.security.private_files import private
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from libs.local.azurite import LocalAzurite
from libs.local.environment import identity_variables
from libs.local.kafka import LocalKafka
from libs.local.ports import LOOPBACK, free_port, is_free
from libs.local.process import LocalServer
from services.cli.config.checks import AGGREGATOR, COLLECTOR, OF_BLOBS, RECORDER, needed_services
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.up.groups import GroupWatch
from services.cli.up.hints import collect_line, progress_line, storage_line, tail_line
from services.cli.up.mock import LocalMock, MockApi, MockPlace, mock_identity
from services.cli.up.news import ResourceNews
from services.cli.up.ports import last_port, remember_port
from services.cli.up.servers import Servers
from services.cli.up.settings import (
    COLLECTED,
    DEMO_APPLICATIONS,
    DEMO_FLOWS,
    DEMO_SUBSCRIPTION,
    LOGS,
    SNAPSHOTS,
    Own,
    own_kafka,
    refuse_what_cannot_run,
    settings_for,
    signs_in,
    with_own,
    write_settings,
)
from services.cli.up.supervisor import Child, Program, ProgramState, StateChange, Supervisor
from services.cli.up.view import View

log = structlog.get_logger(__name__)

_BLOBTIDE: Final = (sys.executable, "-m", "services.cli.main")
STEP_SECONDS: Final = 0.2
SILENT_SECONDS: Final = 15.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# The folders that `up` keeps in its data directory, and all that --fresh deletes.
FOLDERS: Final = ("kafka", "azurite", "mock", "flows", *LOGS, "summary", *COLLECTED, SNAPSHOTS, "logs")
DEMO_START: Final = "-3h"  # well within the hours and days that the monitor lists at every interval, see with_own
DEMO_LINES: Final = 10  # per minute and pod


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of the command line."""

    config: Path | None
    data_dir: Path
    demo: bool
    mock: bool
    fresh: bool
    start_over: bool
    nics: int
    pods: int
    speed: float
    seconds: float | None
    kafka_port: int | None


@click.command(
    epilog=examples(
        "blobtide up --demo",
        "blobtide up --demo --speed 600 --for 120",
        "blobtide up --demo --mock",
        "blobtide up --config blobtide.yaml --data-dir /var/tmp/blobtide",
    )
)
@config_option
@click.option(
    "--demo", is_flag=True, help="Also start Azurite and generate growing logs; reads no settings file except --config."
)
@click.option(
    "--mock",
    is_flag=True,
    help="Demo: also collect the configuration of an Azure that is only in this demo, and record an API that is.",
)
@click.option("--fresh", is_flag=True, help="First delete the data of earlier runs in --data-dir.")
@click.option("--start-over", is_flag=True, help="Read every blob again from the beginning (no row is written twice).")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".blobtide"),
    show_default=True,
    help="Directory for Kafka, Azurite, logs and results.",
)
@click.option(
    "--kafka-port",
    type=click.IntRange(1, 65535),
    help="Port of Kafka. Default: that of the last run if it is free, otherwise any free port.",
)
@click.option("--nics", type=click.IntRange(1, 1000), default=4, show_default=True, help="Demo: number of network interfaces.")
@click.option(
    "--pods",
    type=click.IntRange(0, 1000),
    default=8,
    show_default=True,
    help="Demo: number of pods that write application logs.",
)
@click.option("--speed", type=click.FloatRange(1, 3600), default=60, show_default=True, help="Demo: logged seconds per second.")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="Stop after this many seconds.  [default: never]")
def command(**options: Any) -> None:
    """Run everything on this machine until Ctrl-C."""
    _refuse_demo_options(click.get_current_context())
    asked = _without_default_file(UpOptions(**options))
    settings = load_logged(asked.config, "up")
    if not (asked.demo or settings.subscriptions or settings.recorder.sources or settings.collector.is_configured):
        raise ConfigError("nothing to read: configure `subscriptions`, `collector` or `recorder`, or try `blobtide up --demo`")
    if asked.start_over and settings.monitor.start_from is not None:
        raise ConfigError("--start-over reads from the beginning: remove monitor.start_policy and monitor.start_from")
    refuse_what_cannot_run(settings, asked.data_dir, _expected(asked, settings))
    with _locked(asked.data_dir):
        if asked.kafka_port is not None and not is_free(asked.kafka_port):
            raise ConfigError(f"--kafka-port {asked.kafka_port}: the port is in use or not permitted; choose another")
        if asked.fresh:
            _forget(asked.data_dir)
        _Up(asked, settings, View(sys.stdout)).run()


def _refuse_demo_options(context: click.Context) -> None:
    for name in ("mock", "nics", "pods", "speed"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and not context.params["demo"]:
            raise click.UsageError(f"--{name} requires --demo.", context)


def _expected(asked: UpOptions, settings: Settings) -> Own:
    """Return what `up` will provide, as far as it is known before anything runs."""
    storage = "UseDevelopmentStorage=true" if asked.demo else None
    mock = MockPlace(f"http://{LOOPBACK}", (DEMO_SUBSCRIPTION,), MockApi.new()) if asked.mock else None
    return Own(settings.kafka.bootstrap_servers, storage, pods=asked.demo and asked.pods > 0, mock=mock)


def _without_default_file(asked: UpOptions) -> UpOptions:
    """Isolate the demo: the default settings file may name real accounts and destinations."""
    return replace(asked, config=Path(os.devnull)) if asked.demo and asked.config is None else asked


@dataclass(slots=True)
class _Up:
    """One run: start servers, then topics, then services; stop in reverse."""

    options: UpOptions
    settings: Settings
    view: View
    servers: Servers = field(default_factory=Servers)
    kafka: LocalKafka | None = None
    groups: GroupWatch | None = None

    def run(self) -> None:
        """Run until told to stop.

        Raises:
            BlobtideError: a program was unable to run at the end; a ConfigError if its settings are the reason.
        """
        stop = Stop()
        failed: list[Child] = []
        with contextlib.ExitStack() as stack:
            own = self._servers(stack, stop)
            if own is None:
                self.view.stopping()
            else:
                failed = self._services(own, stack, stop)
        self.view.stopped(self.options.data_dir)
        _raise_for(failed)

    def _servers(self, stack: contextlib.ExitStack, stop: Stop) -> Own | None:
        """Start the servers; return None if asked to stop meanwhile."""
        own = None
        with _interruptible(stop):
            own = self._start_servers(stack)
        return None if stop.is_set() else own

    def _services(self, own: Own, stack: contextlib.ExitStack, stop: Stop) -> list[Child]:
        """Run the services until told to stop; return those unable to run by then."""
        programs = list(self._programs(own))
        for program in programs:
            (program.relay or program.log).unlink(missing_ok=True)  # the view shows this run's output only
        supervisor = Supervisor(programs)
        stack.callback(supervisor.stop)
        supervisor.start()
        self.view.started(self._results(own))
        self._watch(supervisor, stop)
        self.view.stopping()
        return supervisor.failed()

    def _start_servers(self, stack: contextlib.ExitStack) -> Own:
        """Start Kafka and Azurite and apply the topics; return their addresses."""
        data = self.options.data_dir
        self.kafka = kafka = LocalKafka(data / "kafka", self.options.kafka_port or last_port(data, LocalKafka.name))
        self._start_server(kafka, stack)
        self.view.server(kafka.name, kafka.bootstrap_servers)
        if "bootstrap_servers" in self.settings.kafka.model_fields_set:
            self.view.not_used(f"kafka.bootstrap_servers {self.settings.kafka.bootstrap_servers}")
        self._prepare_topics(kafka.bootstrap_servers, stack)
        self.view.to_copy("follow with", tail_line(self.settings, self.options.config, kafka.bootstrap_servers))
        own = Own(kafka.bootstrap_servers, replay_id=secrets.token_hex(8) if self.options.start_over else None)
        if not self.options.demo:
            return own
        azurite = LocalAzurite(data / LocalAzurite.name, last_port(data, LocalAzurite.name))
        self._start_server(azurite, stack)
        self.view.server(azurite.name, azurite.blob_endpoint)
        self.view.to_copy("use it with", storage_line(azurite.connection_string))
        own = replace(own, storage=azurite.connection_string, pods=bool(self.options.pods))
        return replace(own, mock=self._start_mock(own, stack)) if self.options.mock else own

    def _start_mock(self, own: Own, stack: contextlib.ExitStack) -> MockPlace:
        """Start what the collector and the recorder ask, and say how to use it."""
        data = self.options.data_dir
        mock = LocalMock(data / LocalMock.name, last_port(data, LocalMock.name), self.options.nics)
        self._start_server(mock, stack)
        self.view.server(mock.name, mock.url)
        if self.settings.collector.is_configured:
            self.view.not_used("collector")
        place = mock.place(MockApi.new(last_port(data, COLLECTOR)))
        remember_port(data, COLLECTOR, place.api.port)
        file = write_settings(self.settings, data, own.bootstrap_servers)
        self.view.to_copy("collect with", collect_line(file, place.subscriptions[0]))
        self.view.to_copy("and ask with", progress_line(place.api, data))
        self.view.to_copy(
            "follow with", tail_line(self.settings, self.options.config, own.bootstrap_servers, "resource_changes")
        )
        return place

    def _start_server(self, server: LocalServer, stack: contextlib.ExitStack) -> None:
        self.view.starting(server.name)
        stack.callback(server.stop)
        server.start()
        remember_port(self.options.data_dir, server.name, server.port)
        self.servers.add(server)

    def _prepare_topics(self, bootstrap_servers: str, stack: contextlib.ExitStack) -> None:
        kafka = own_kafka(self.settings.kafka, bootstrap_servers)
        apply_topics(kafka, self.settings.topics, load_topic_specs())
        self.view.sample = self._following(kafka, self.settings.topics.flows, stack)
        if self.options.mock or self.settings.collector.is_configured:
            self.view.news = ResourceNews(self._following(kafka, self.settings.topics.resource_changes, stack))
        self.groups = GroupWatch(GroupProbe(kafka, self.settings.topics.flows))
        stack.callback(self.groups.close)
        self.groups.start()

    @staticmethod
    def _following(kafka: KafkaSettings, topic: str, stack: contextlib.ExitStack) -> Follower:
        """Return a reader of what is written to a topic from now on."""
        follower = Follower(kafka, (topic,), Newest(0))
        stack.callback(follower.close)
        follower.open()
        return follower

    def _results(self, own: Own) -> dict[str, str]:
        """Return the directory of each sink that writes to this machine."""
        sinks = with_own(self.settings, self.options.data_dir, own).sinks
        return {name: str(options["directory"]) for name, options in sinks.items() if "directory" in options}

    def _programs(self, own: Own) -> Iterator[Program]:
        settings = with_own(self.settings, self.options.data_dir, own)
        needed = set(needed_services(settings)) - (set() if settings.collector.is_configured else {COLLECTOR})
        services = [(name,) for name in (*OF_BLOBS, AGGREGATOR, COLLECTOR, RECORDER) if name in needed]
        for words in (*services, *(("sink", name) for name in settings.sinks)):
            yield self._service(words, settings, own)
        if self.options.demo:
            yield self._generator("demo", ("--environment", f"{DEMO_SUBSCRIPTION}.{DEMO_FLOWS}", *self._flows()), settings)
        if self.options.demo and self.options.pods:
            place = f"{DEMO_SUBSCRIPTION}.{DEMO_APPLICATIONS}"
            yield self._generator("demo-pods", ("--environment", place, *self._applications()), settings)

    def _service(self, words: tuple[str, ...], settings: Settings, own: Own) -> Program:
        name, port = "-".join(words), free_port()
        return Program(
            name=name,
            argv=(*_BLOBTIDE, "run", *words),
            env=self._environment(words, own),
            log=self.options.data_dir / "logs" / f"{name}.log",
            health_port=port,
            relay=self.options.data_dir / "logs" / f"{name}.out",
            settings={**settings_for(words, settings), "http": {"host": "127.0.0.1", "port": port}},
        )

    def _flows(self) -> tuple[str, ...]:
        return ("--nics", str(self.options.nics))

    def _applications(self) -> tuple[str, ...]:
        return ("--kind", "applogs", "--pods", str(self.options.pods), "--lines-per-minute", str(DEMO_LINES))

    def _generator(self, name: str, what: tuple[str, ...], settings: Settings) -> Program:
        words = ("demo", "generate", *what, "--follow", "--speed", str(self.options.speed), "--start", DEMO_START)
        return Program(
            name=name,
            argv=(*_BLOBTIDE, *words),
            env=self._environment(words),
            log=self.options.data_dir / "logs" / f"{name}.log",
            settings=settings_for(words, settings),
        )

    def _environment(self, words: Sequence[str], own: Own | None = None) -> dict[str, str]:
        """Return the environment variables specific to one program."""
        environ = identity_variables(os.environ) if signs_in(words) else {}
        if own is not None and own.mock is not None and words[0] == COLLECTOR:
            environ = mock_identity(own.mock)
        if self.view.width is not None:
            environ["COLUMNS"] = str(self.view.width)  # the output of sinks reaches our terminal by way of a file
        return {**environ, "PYTHONUNBUFFERED": "1"}

    def _watch(self, supervisor: Supervisor, stop: Stop) -> None:
        until = time.monotonic() + (self.options.seconds or float("inf"))
        while not stop.is_set() and time.monotonic() < until:
            for change in (*supervisor.step(), *self.servers.step(), *self._watch_groups()):
                self.view.changed(change)
            self.view.refresh(supervisor, self._waiting())
            stop.wait(STEP_SECONDS)

    def _watch_groups(self) -> list[StateChange]:
        """Restart Kafka if it is running but its consumer groups have not worked for too long."""
        if self.kafka is None or self.groups is None:
            return []
        if not self.servers.is_ready(self.kafka):
            self.groups.forgive()
        if not self.groups.is_lost():
            return []
        why = f"its consumer groups have not worked for {self.groups.still_for():.0f} s ({self.groups.reason})"
        log.warning("restarting Kafka", reason=why)
        self.groups.broker_restarts()
        return self.servers.restart(self.kafka, why)

    def _waiting(self) -> Iterator[tuple[str, str]]:
        """Yield the servers that are down, and why."""
        yield from ((kept.server.name, kept.why) for kept in self.servers.kept if kept.state is not ProgramState.READY)
        if self.groups is not None and (seconds := self.groups.still_for()) >= SILENT_SECONDS:
            since = time.strftime("%H:%M:%S", time.localtime(time.time() - seconds))
            yield LocalKafka.name, f"consumer groups do not work ({self.groups.reason}); no progress since {since}"


def _raise_for(failed: Sequence[Child]) -> None:
    if not failed:
        return
    what = "; ".join(
        f"{child.program.name} was unable to run: {child.refusal or child.why}; see {child.program.log}" for child in failed
    )
    kind = ConfigError if any(child.refusal for child in failed) else BlobtideError
    raise kind(what)


@contextlib.contextmanager
def _interruptible(stop: Stop) -> Iterator[None]:
    """Let a signal interrupt the block, which may be waiting for Java, and set `stop`; afterwards a signal only sets `stop`."""

    def on_signal(*_: object) -> None:
        if not stop.is_set():
            stop.set()
            raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield
    except (KeyboardInterrupt, BlobtideError):
        if not stop.is_set():  # otherwise it is only the complaint of a tool that received the same Ctrl-C
            raise
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: stop.set())


def _forget(data_dir: Path) -> None:
    for folder in FOLDERS:
        try:
            shutil.rmtree(data_dir / folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BlobtideError(f"--fresh cannot delete {data_dir / folder}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[IO[str]]:
    """Lock the data directory for this process."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = open(data_dir / "lock", "a+", opener=private)  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"--data-dir {data_dir.absolute()}: cannot write to it: {error.strerror}") from error
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another `blobtide up` is using {data_dir.absolute()}; stop it, or give another --data-dir"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock
