"""The settings that `blobtide up` runs its programs with: what the operator gave, changed where `up` brings its own servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.settings import Settings
from libs.common.settings.kafka import SecurityProtocol
from libs.common.settings.services import SinkOptions
from libs.common.settings.storage import Subscription
from services.cli.checks import builds, tried

DEMO_SUBSCRIPTION: Final = "demo"
LOGIN: Final = ("sasl_username", "sasl_password", "sasl_password_file")
DEMO_CONTAINERS: Final = ("insights-logs-flowlogflowevent", "insights-logs-networksecuritygroupflowevent")


def connection(bootstrap_servers: str) -> dict[str, str]:
    """Return the settings that lead to our own Kafka, whichever other one is configured."""
    return {"bootstrap_servers": bootstrap_servers, "security_protocol": SecurityProtocol.PLAINTEXT}


def kafka_variables(bootstrap_servers: str) -> dict[str, str]:
    """Return the variables that lead a program to our own Kafka, without the login of another one, which would be refused."""
    changed = {**connection(bootstrap_servers), **dict.fromkeys(LOGIN, "")}
    return {f"BLOBTIDE_KAFKA__{name.upper()}": value for name, value in changed.items()}


def demo_variables(connection_string: str) -> dict[str, str]:
    """Return the variables that make the monitor follow Azurite's demo containers closely."""
    return {
        "BLOBTIDE_SUBSCRIPTIONS": json.dumps({DEMO_SUBSCRIPTION: _demo_subscription(connection_string)}),
        "BLOBTIDE_MONITOR__DISCOVERY_SECONDS": "2",
        "BLOBTIDE_MONITOR__HOURS_BACK": "6",
    }


def sinks_of(settings: Settings, data_dir: Path) -> SinkOptions:
    """Return the configured sinks, or files and a summary where none are configured."""
    data = data_dir.absolute()
    return settings.sinks or {
        "file": {"directory": str(data / "flows"), "format": "parquet", "rotate_seconds": 10},
        "summary": {"directory": str(data / "summary"), "top": 10},
    }


def refuse_what_cannot_run(settings: Settings, data_dir: Path, *, demo: bool) -> None:
    """Build all that will run, while nothing has been deleted, fetched or started yet.

    Raises:
        ConfigError: one message that names everything that cannot be built.
    """
    found = tried(builds(_with_own_servers(settings, data_dir, demo=demo)))
    if problems := [f"{verdict.what}: {verdict.error}" for verdict in found if verdict.error is not None and verdict.is_new]:
        raise ConfigError("; ".join(problems))


def _with_own_servers(settings: Settings, data_dir: Path, *, demo: bool) -> Settings:
    """Return the settings as the services will load them, but for the addresses of servers that do not run yet."""
    subscriptions = dict(settings.subscriptions)
    if demo:
        subscriptions[DEMO_SUBSCRIPTION] = Subscription.model_validate(_demo_subscription("UseDevelopmentStorage=true"))
    kafka = settings.kafka.model_copy(update=connection(settings.kafka.bootstrap_servers))
    sinks = sinks_of(settings, data_dir)
    return settings.model_copy(update={"kafka": kafka, "subscriptions": subscriptions, "sinks": sinks})


def _demo_subscription(connection_string: str) -> dict[str, Any]:
    environment = {
        "storage": {"connection_string": connection_string},
        "sources": [{"container": name} for name in DEMO_CONTAINERS],
        "interval_seconds": 1,
    }
    return {"environments": {DEMO_SUBSCRIPTION: environment}}
