"""Checks of the settings, in the order in which problems are best reported.

`builds` connects to nothing, but builds everything, reads every secret and creates every kind of Kafka client. `connections`
also contacts the servers for which a client could be built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.settings import Settings
from libs.common.settings.recorder import HttpSourceSettings
from libs.common.settings.storage import Environment, account_alias
from services.cli.run import SERVICES, needs

if TYPE_CHECKING:
    from services.sinks.frame.contract import Sink
    from services.sinks.frame.registry import ConfiguredSink

MONITOR: Final = "blob-monitor"
COLLECTOR: Final = "collector"
RECORDER: Final = "recorder"
AGGREGATOR: Final = "aggregator"
OF_BLOBS: Final = (MONITOR, "ingest", "parser")
IDLE: Final = "will find nothing to do: no environment under `subscriptions` is enabled"
UNREAD: Final = "not built, because its secrets are in a key vault; --connect reads them"
_KAFKA: Final = "Kafka clients"


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `attempt` raises `BlobtideError` on failure; a string that it returns is a remark on its success."""

    what: str
    attempt: Callable[[], object]
    needs: str = ""  # a check whose failure makes this one redundant
    reads: tuple[str, ...] = ()  # groups of settings, or parts of groups


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check."""

    what: str
    remark: str = ""
    error: BlobtideError | None = None
    is_new: bool = True  # no earlier check failed for the same reason


def tried(checks: Iterable[Check]) -> Iterator[CheckResult]:
    """Run the checks and yield their verdicts; skip those whose prerequisite failed or was skipped."""
    failed: set[str] = set()
    said: set[str] = set()
    for check in checks:
        if check.needs in failed:
            failed.add(check.what)
            continue
        try:
            remark = check.attempt()
        except BlobtideError as error:
            yield CheckResult(check.what, error=error, is_new=str(error) not in said)
            failed.add(check.what)
            said.add(str(error))
        else:
            yield CheckResult(check.what, remark if isinstance(remark, str) else "")


def builds(settings: Settings) -> Iterator[Check]:
    """Yield the checks that need no server. What needs a secret that was not read counts as good, with a remark."""
    for check in _builds(settings):
        unread = any(_is_part(path, group) for path in settings.unread for group in check.reads)
        yield replace(check, attempt=lambda: UNREAD) if unread else check


def _builds(settings: Settings) -> Iterator[Check]:
    yield Check(_KAFKA, partial(_make_clients, settings), reads=("kafka",))
    for alias, environment in _environments(settings):
        yield Check(_storage(alias), partial(_open_containers, alias, environment), reads=(_place(alias),))
    for name in needed_services(settings):
        own = tuple(group for group in Settings.model_fields if needs(name, group))
        yield Check(name, partial(_build, name, settings), reads=own)
    for name in settings.sinks:
        yield Check(_sink(name), partial(_build_sink, settings, name), reads=("kafka", f"sinks.{name}"))
    yield Check("sinks share nothing", partial(_check_memories, settings), reads=("sinks",))


def _place(alias: str) -> str:
    subscription, _, name = alias.partition(".")
    return f"subscriptions.{subscription}.environments.{name}"


def _is_part(path: str, group: str) -> bool:
    return path == group or path.startswith(f"{group}.")


def needed_services(settings: Settings) -> list[str]:
    """Return the services that have something to do, or would have in most places.

    Without storage accounts, they are only the recorder and the collector, as far as these are configured.
    """
    collects = settings.collector.is_configured
    unneeded = set() if settings.recorder.sources else {RECORDER}
    if not settings.aggregator.aggregations:
        unneeded.add(AGGREGATOR)
    if not settings.subscriptions and (settings.recorder.sources or collects):
        unneeded.update(OF_BLOBS)
        if not collects:
            unneeded.add(COLLECTOR)
    return [name for name in SERVICES if name not in unneeded]


def connections(settings: Settings) -> Iterator[Check]:
    """Yield the checks that contact servers; run them after those of `builds`."""
    from libs.common.azure.storage.blobs import check_container
    from libs.common.azure.storage.queues import check_queue
    from libs.common.kafka.topics.admin import check_topics, load_topic_specs

    kafka = partial(check_topics, settings.kafka, settings.topics, load_topic_specs())
    there = f"Kafka at {settings.kafka.bootstrap_servers} and its topics"
    yield Check(there, kafka, _KAFKA)
    yield Check("message sizes of topics", partial(_compare_sizes, settings), there)
    for alias, environment in _environments(settings):
        for source in environment.sources:
            attempt = partial(check_container, environment.storage, alias, source.container)
            yield Check(f"container {source.container} of {alias}", attempt, _storage(alias))
        if environment.events is not None:
            attempt = partial(check_queue, environment.storage, alias, environment.events)
            yield Check(f"queue {environment.events.queue} of {alias}", attempt, _storage(alias))
    if settings.collector.queue is not None:
        yield Check(f"queue {settings.collector.queue.queue} of requests", partial(check_requests, settings), COLLECTOR)
    for polled in settings.recorder.sources:
        yield Check(f"source {polled.name}", partial(ask_source, polled), RECORDER)
    for sink in _sinks(settings):
        yield Check(f"destination of sink {sink.name}", partial(_open_and_close, sink.sink), _sink(sink.name))


def check_requests(settings: Settings) -> str:
    """Look into the collector's queue of requests without receiving any, and return a remark.

    Raises:
        ConfigError: none is configured, it does not exist, or the settings cannot work.
        ServerUnreachable: storage refuses or does not answer.
    """
    from libs.common.azure.storage.queues import check_queue

    place = settings.collector.queue
    if place is None:
        raise ConfigError("no queue of requests is configured: set collector.queue")
    check_queue(place.storage, "collector", place)
    try:
        check_queue(place.storage, "collector", place.poison)
    except ConfigError:
        return f"there is no queue {place.poison.queue}, so messages that cannot be handled will only be in Errors"
    except ServerUnreachable:  # the collector need not be allowed to read it
        return ""
    return ""


def ask_source(source: HttpSourceSettings) -> str:
    """Ask a source once as the recorder does, without recording its answer, and say what it answered.

    Raises:
        ConfigError: no record can be made of its answer.
        ServerUnreachable: it gives no answer.
    """
    from services.recorder.asking import FailedPoll, HttpPoller, PollClock, RefusedAnswer, Snapshot

    poller = HttpPoller(source, PollClock())
    try:
        outcome = poller.ask(None)
    finally:
        poller.close()
    match outcome:
        case FailedPoll(reason):
            raise ServerUnreachable(reason)
        case RefusedAnswer():
            raise ConfigError(f"{source.address}: {outcome.reason}")
        case Snapshot(facts, records):
            return f"{len(records)} record{'s' * (len(records) != 1)} from {facts.size} bytes"
        case _:
            return ""


def _compare_sizes(settings: Settings) -> str:
    """Describe what will be written smaller than configured because its topic accepts no larger messages.

    Raises:
        ConfigError: a topic's limit is too small to be usable.
    """
    from libs.common.kafka.topics.topic_limits import TopicLimits
    from libs.common.settings.streams import parsed_topics

    topics, ingest = settings.topics, settings.ingest
    _, rows = parsed_topics(topics, settings.parser)
    limits = TopicLimits(settings.kafka, (*topics.model_dump().values(), *settings.aggregator.topics_of(topics)))
    limits.read()
    lines = (topics.raw_application_logs, topics.raw_proxy_logs, topics.errors)
    wanted = (
        ("parser.batch_bytes", settings.parser.batch_bytes, rows, "batches of rows are cut smaller"),
        (
            "aggregator.batch_bytes",
            settings.aggregator.batch_bytes,
            settings.aggregator.topics_of(topics),
            "batches of rollups are cut smaller",
        ),
        ("ingest.segment_bytes", ingest.segment_bytes, (topics.raw_flow_logs, *lines), "segments are cut smaller"),
        ("ingest.max_line_bytes", ingest.max_line_bytes, lines, "longer lines go to the errors topic"),
    )
    return "; ".join(
        f"{topic} accepts {limits.room(topic)} bytes besides key and headers, but {setting} is {size}: {effect}"
        for setting, size, of, effect in wanted
        for topic in of
        if limits.room(topic) < size
    )


def _storage(alias: str) -> str:
    return f"storage of {alias}"


def _sink(name: str) -> str:
    return f"sink {name}"


def _make_clients(settings: Settings) -> None:
    from libs.common.kafka.client.configs import check_clients

    check_clients(settings.kafka)


def _open_containers(alias: str, environment: Environment) -> None:
    from libs.common.azure.storage.blobs import open_container
    from libs.common.azure.storage.queues import open_queue

    if environment.events is not None:
        open_queue(environment.storage, alias, environment.events).close()
    for source in environment.sources:
        open_container(environment.storage, alias, source.container).close()


def _build(name: str, settings: Settings) -> str:
    importlib.import_module(SERVICES[name]).build(settings)
    return IDLE if name == MONITOR and not any(_environments(settings)) else ""


def _build_sink(settings: Settings, name: str) -> None:
    from services.sinks.frame.registry import configured_sink
    from services.sinks.main import build

    build(settings, name)
    configured_sink(settings.sinks, name, settings).sink.read_files()


def _check_memories(settings: Settings) -> None:
    """Refuse two sinks with one memory: each would take the other's rows for its own, and write too little."""
    used: dict[str, str] = {}
    for sink in _sinks(settings):
        memory = sink.settings.memory(sink.row_type)
        if memory is not None and (other := used.setdefault(memory, sink.name)) != sink.name:
            raise ConfigError(f"sinks.{other} and sinks.{sink.name} share {memory}: give each its own")


def _sinks(settings: Settings) -> Iterator[ConfiguredSink]:
    from services.sinks.frame.registry import configured_sink

    for name in settings.sinks:
        with suppress(ConfigError):  # reported by the check of this sink
            yield configured_sink(settings.sinks, name, settings)


def _open_and_close(sink: Sink) -> None:
    """Open a sink as its service does at start-up: it connects, signs in and checks its prerequisites."""
    try:
        sink.open()
    finally:
        sink.close()


def _environments(settings: Settings) -> Iterator[tuple[str, Environment]]:
    for subscription, inside in settings.subscriptions.items():
        for name, environment in inside.environments.items():
            if environment.enabled:
                yield account_alias(subscription, name), environment
