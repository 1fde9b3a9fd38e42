"""The settings of the programs that `blobtide up` runs: the operator's, changed where `up` provides its own servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.errors import ConfigError
from libs.common.security.private_files import private
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.common.settings.monitor import StartPolicy
from libs.common.settings.plain import plain
from libs.common.settings.selectors import PRESETS
from libs.common.settings.sinks import SinkOptions
from libs.common.settings.storage import SourceLayout, Subscription
from services.cli.config.checks import COLLECTOR, builds, tried
from services.cli.up.mock import MockPlace, mocked

DEMO_SUBSCRIPTION: Final = "demo"
DEMO_FLOWS: Final = "demo"
DEMO_APPLICATIONS: Final = "applications"
"""The environments of the demo, both in one storage account."""
LOGIN: Final = ("sasl_username", "sasl_password", "sasl_password_file")
STORAGE_USERS: Final = ("blob-monitor", "ingest", "demo")
AZURE_USERS: Final = (*STORAGE_USERS, COLLECTOR)
APPLICATIONS_CONTAINER: Final = "commerce-logs-separated"
LOGS: Final = ("application", "proxy", "spans")
"""Row types made of the demo's application logs, and their folders."""
SNAPSHOTS: Final = "snapshots"
"""The folder of what the recorder's sources answer."""
COLLECTED: Final = ("resources", "resource_changes", "results")
"""Row types of what the collector writes, and their folders."""
DEMO_CONTAINERS: Final = ("insights-logs-flowlogflowevent", "insights-logs-networksecuritygroupflowevent")


@dataclass(frozen=True, slots=True)
class Own:
    """What `up` itself provides.

    Attributes:
        bootstrap_servers: of its Kafka.
        storage: connection string of the demo's storage account; None if there is no demo.
        pods: whether the demo has application logs.
        mock: what the collector and the recorder ask in the demo; None if it has neither.
        replay_id: if set, everything is read again from the beginning.
    """

    bootstrap_servers: str
    storage: str | None = None
    pods: bool = False
    mock: MockPlace | None = None
    replay_id: str | None = None


def with_own(settings: Settings, data_dir: Path, own: Own) -> Settings:
    """Return the settings for the programs that `up` starts."""
    subscriptions, monitor = dict(settings.subscriptions), dict[str, Any]()
    if own.storage is not None:  # list its containers frequently
        subscriptions[DEMO_SUBSCRIPTION] = Subscription.model_validate({"environments": dict(_demo_environments(own))})
        monitor |= {"discovery_seconds": 2.0, "hours_back": 6, "end_of_day_overlap_minutes": 360}
    if own.replay_id is not None:
        monitor |= {"start_policy": StartPolicy.START_OVER, "replay_id": own.replay_id}
    changed = {
        "kafka": own_kafka(settings.kafka, own.bootstrap_servers),
        "monitor": settings.monitor.model_copy(update=monitor),
        "subscriptions": subscriptions,
        **({} if own.mock is None else mocked(settings, own.mock)),
    }
    changed_settings = settings.model_copy(update=changed)
    return changed_settings.model_copy(update={"sinks": sinks_of(changed_settings, data_dir, own)})


def own_kafka(kafka: KafkaSettings, bootstrap_servers: str) -> KafkaSettings:
    """Return settings for our own Kafka in place of the configured one; it requires no login, so it is sent no credentials."""
    kept = {name: value for name, value in plain(kafka).items() if not name.startswith(("sasl_", "ssl_"))}
    kept["librdkafka"] = {
        name: value for name, value in kafka.librdkafka.items() if not name.startswith(("sasl.", "ssl.", "enable.ssl."))
    }
    own = {"bootstrap_servers": bootstrap_servers, "security_protocol": SecurityProtocol.PLAINTEXT, "verify": True}
    return KafkaSettings.model_validate({**kept, **own})


def write_settings(settings: Settings, data_dir: Path, bootstrap_servers: str) -> Path:
    """Write the settings with which other commands reach our own Kafka, and return the file."""
    values = {
        "kafka": own_kafka(settings.kafka, bootstrap_servers).model_dump(mode="json", exclude_defaults=True),
        "topics": settings.topics.model_dump(mode="json", exclude_defaults=True),
    }
    file = data_dir / "settings.yaml"
    with open(file, "w", encoding="utf-8", opener=private) as out:
        yaml.safe_dump({name: group for name, group in values.items() if group}, out, sort_keys=False)
    return file


def settings_for(words: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Return the settings for the program `words` (such as ``("sink", "file")``), with only the secrets that it needs.

    What came from key vaults stands in them as a text, and the program is told not to show it.
    """
    values = _needed(words, settings)
    hidden = sorted(settings.from_vaults & set(_texts(values)))
    log: dict[str, Any] = values.get("log", {})
    return {**values, "log": {**log, "hidden": [*log.get("hidden", ()), *hidden]}} if hidden else values


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from (text for inner in value.values() for text in _texts(inner))
        case list():
            yield from (text for inner in value for text in _texts(inner))
        case _:
            pass


def _needed(words: Sequence[str], settings: Settings) -> dict[str, Any]:
    known = plain(settings)
    azure, collector = (known.pop(name, {}) for name in ("azure", "collector"))
    subscriptions, sinks, recorder = (known.pop(name, {}) for name in ("subscriptions", "sinks", "recorder"))
    match tuple(words):
        case ("sink", name):
            return {**known, "azure": azure, "sinks": {name: sinks[name]}}
        case ("collector",):
            return {**known, "azure": azure, "collector": collector}
        case ("recorder",):
            return {**known, "recorder": recorder}
        case ("demo", *_):
            return {**known, "subscriptions": {DEMO_SUBSCRIPTION: subscriptions[DEMO_SUBSCRIPTION]}}
        case _ if reads_storage(words):
            return {**known, "subscriptions": subscriptions}
        case _:
            return known


def reads_storage(words: Sequence[str]) -> bool:
    """Return whether the program signs in to storage accounts."""
    return words[0] in STORAGE_USERS


def signs_in(words: Sequence[str]) -> bool:
    """Return whether the program signs in to Azure."""
    return words[0] in AZURE_USERS


def sinks_of(settings: Settings, data_dir: Path, own: Own) -> SinkOptions:
    """Return the configured sinks, or by default files of everything that there will be rows of, and a summary of flows."""
    return settings.sinks or dict(_default_sinks(settings, data_dir.absolute(), own))


def _default_sinks(settings: Settings, data: Path, own: Own) -> Iterator[tuple[str, dict[str, Any]]]:
    files = {"kind": "file", "rotate_seconds": 10}
    yield "file", {**files, "format": "parquet", "directory": str(data / "flows")}
    for name in LOGS if own.pods else ():
        yield name, {**files, "format": "parquet", "rows": name, "directory": str(data / name)}
    yield "summary", {"directory": str(data / "summary"), "top": 10}
    for name in COLLECTED if settings.collector.is_configured else ():
        yield name, {**files, "format": "ndjson", "rows": name, "directory": str(data / name)}
    if settings.recorder.sources:
        yield "archive", {"directory": str(data / SNAPSHOTS), "rotate_seconds": 60 if own.mock is None else 10}


def refuse_what_cannot_run(settings: Settings, data_dir: Path, own: Own) -> None:
    """Build everything that will run, before anything is deleted, downloaded or started; `own` is what will be there.

    Raises:
        ConfigError: its message names everything that cannot be built.
    """
    found = tried(builds(with_own(settings, data_dir, own)))
    if problems := [f"{verdict.what}: {verdict.error}" for verdict in found if verdict.error is not None and verdict.is_new]:
        raise ConfigError("; ".join(problems))


def _demo_environments(own: Own) -> Iterator[tuple[str, dict[str, Any]]]:
    storage = {"connection_string": own.storage}
    yield DEMO_FLOWS, {"storage": storage, "sources": [{"container": name} for name in DEMO_CONTAINERS], "interval_seconds": 1}
    if own.pods:
        source = {"container": APPLICATIONS_CONTAINER, "layout": SourceLayout.KUBERNETES, "selectors": list(PRESETS)}
        yield DEMO_APPLICATIONS, {"storage": storage, "sources": [source], "interval_seconds": 3}
