"""The settings of the programs that `blobtide up` runs: the operator's, changed where `up` provides its own servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.common.settings.monitor import StartPolicy
from libs.common.settings.plain import plain
from libs.common.settings.selectors import PRESETS
from libs.common.settings.sinks import SinkOptions
from libs.common.settings.storage import SourceLayout, Subscription
from services.cli.config.checks import builds, tried

DEMO_SUBSCRIPTION: Final = "demo"
DEMO_FLOWS: Final = "demo"
DEMO_APPLICATIONS: Final = "applications"
"""The environments of the demo, both in one storage account."""
LOGIN: Final = ("sasl_username", "sasl_password", "sasl_password_file")
STORAGE_USERS: Final = ("blob-monitor", "ingest", "demo")
APPLICATIONS_CONTAINER: Final = "commerce-logs-separated"
LOGS: Final = ("application", "proxy", "spans")
"""Row types made of the demo's application logs, and their folders."""
SNAPSHOTS: Final = "snapshots"
"""The folder of what the recorder's sources answer."""
DEMO_CONTAINERS: Final = ("insights-logs-flowlogflowevent", "insights-logs-networksecuritygroupflowevent")


@dataclass(frozen=True, slots=True)
class Own:
    """What `up` itself provides.

    Attributes:
        bootstrap_servers: of its Kafka.
        storage: connection string of the demo's storage account; None if there is no demo.
        pods: whether the demo has application logs.
        replay_id: if set, everything is read again from the beginning.
    """

    bootstrap_servers: str
    storage: str | None = None
    pods: bool = False
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
        "sinks": sinks_of(settings, data_dir, pods=own.pods),
    }
    return settings.model_copy(update=changed)


def own_kafka(kafka: KafkaSettings, bootstrap_servers: str) -> KafkaSettings:
    """Return settings for our own Kafka in place of the configured one; it requires no login, so it is sent no credentials."""
    kept = {name: value for name, value in plain(kafka).items() if not name.startswith(("sasl_", "ssl_"))}
    kept["librdkafka"] = {
        name: value for name, value in kafka.librdkafka.items() if not name.startswith(("sasl.", "ssl.", "enable.ssl."))
    }
    own = {"bootstrap_servers": bootstrap_servers, "security_protocol": SecurityProtocol.PLAINTEXT, "verify": True}
    return KafkaSettings.model_validate({**kept, **own})


def settings_for(words: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Return the settings for the program `words` (such as ``("sink", "file")``), with only the secrets that it needs."""
    known = plain(settings)
    azure, collector = (known.pop(name, {}) for name in ("azure", "collector"))
    subscriptions, sinks, recorder = (known.pop(name, {}) for name in ("subscriptions", "sinks", "recorder"))
    match tuple(words):
        case ("sink", name):
            return {**known, "azure": azure, "sinks": {name: sinks[name]}}
        case ("collector",):
            return {**known, "collector": collector}
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


def sinks_of(settings: Settings, data_dir: Path, *, pods: bool = False) -> SinkOptions:
    """Return the configured sinks, or by default files and a summary, and an archive of snapshots if there are sources of them.

    With `pods`, there are also files of their logs.
    """
    data = data_dir.absolute()
    files = {"kind": "file", "format": "parquet", "rotate_seconds": 10}
    of_logs = {name: {**files, "rows": name, "directory": str(data / name)} for name in LOGS if pods}
    archive = {"archive": {"directory": str(data / SNAPSHOTS), "rotate_seconds": 60}} if settings.recorder.sources else {}
    return settings.sinks or {
        "file": {**files, "directory": str(data / "flows")},
        **of_logs,
        "summary": {"directory": str(data / "summary"), "top": 10},
        **archive,
    }


def refuse_what_cannot_run(settings: Settings, data_dir: Path, *, demo: bool) -> None:
    """Build everything that will run, before anything is deleted, downloaded or started.

    Raises:
        ConfigError: its message names everything that cannot be built.
    """
    own = Own(settings.kafka.bootstrap_servers, "UseDevelopmentStorage=true" if demo else None, pods=demo)  # nothing runs yet
    found = tried(builds(with_own(settings, data_dir, own)))
    if problems := [f"{verdict.what}: {verdict.error}" for verdict in found if verdict.error is not None and verdict.is_new]:
        raise ConfigError("; ".join(problems))


def _demo_environments(own: Own) -> Iterator[tuple[str, dict[str, Any]]]:
    storage = {"connection_string": own.storage}
    yield DEMO_FLOWS, {"storage": storage, "sources": [{"container": name} for name in DEMO_CONTAINERS], "interval_seconds": 1}
    if own.pods:
        source = {"container": APPLICATIONS_CONTAINER, "layout": SourceLayout.KUBERNETES, "selectors": list(PRESETS)}
        yield DEMO_APPLICATIONS, {"storage": storage, "sources": [source], "interval_seconds": 3}
