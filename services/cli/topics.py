"""`blobtide topics`: compare the declared topics with the broker, or make them so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.options import config_option, load_logged

if TYPE_CHECKING:
    from libs.common.kafka.admin import Change, TopicSpec
    from libs.common.settings.kafka import KafkaSettings, TopicSettings

DIFFERENT = 1

_file_option = click.option(
    "-f", "--file", type=click.Path(path_type=Path, dir_okay=False), help="Declaration. Default: blobtide's own topics.yaml."
)
_servers_option = click.option("--bootstrap-servers", help="Kafka, instead of kafka.bootstrap_servers.")
_replicas_option = click.option("--replication-factor", type=click.IntRange(min=1), help="Instead of the declared one.")
_wait_option = click.option("--wait", type=click.FloatRange(min=0), help="Wait up to so many seconds for Kafka to answer.")


@click.group()
def command() -> None:
    """Compare or apply the declared topics."""


@command.command(short_help="Show what differs; exit code 1 if something does.")
@config_option
@_file_option
@_servers_option
@_replicas_option
@click.pass_context
def diff(
    context: click.Context,
    config: Path | None,
    file: Path | None,
    bootstrap_servers: str | None,
    replication_factor: int | None,
) -> None:
    """Show what differs; exit code 0 if nothing does, 1 if something does."""
    from libs.common.kafka.admin import plan_topics

    changes = plan_topics(*_declared(config, file, bootstrap_servers, replication_factor))
    _show(changes)
    if changes:
        context.exit(DIFFERENT)


@command.command()
@config_option
@_file_option
@_servers_option
@_replicas_option
@_wait_option
def apply(
    config: Path | None,
    file: Path | None,
    bootstrap_servers: str | None,
    replication_factor: int | None,
    wait: float | None,
) -> None:
    """Create missing topics, alter configurations, add partitions. Nothing is deleted or shrunk."""
    from libs.common.kafka.admin import ChangeKind, apply_topics
    from libs.common.kafka.client import check_reachable

    kafka, topics, specs = _declared(config, file, bootstrap_servers, replication_factor)
    if wait:
        check_reachable(kafka, seconds=wait)
    changes = apply_topics(kafka, topics, specs)
    _show(changes)
    refused = [change for change in changes if change.kind is ChangeKind.REFUSED]
    click.echo(f"{len(changes) - len(refused)} changes made, {len(refused)} left to you; nothing was deleted or shrunk")


def _declared(
    config: Path | None, file: Path | None, bootstrap_servers: str | None, replication_factor: int | None
) -> tuple[KafkaSettings, TopicSettings, list[TopicSpec]]:
    from libs.common.kafka.admin import load_topic_specs

    settings = load_logged(config, "topics")
    kafka = settings.kafka
    if bootstrap_servers:
        kafka = kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    return kafka, settings.topics, load_topic_specs(file, replication_factor)


_SIGNS = {"create": "+", "add partitions": "+", "alter": "~", "refused": "!"}


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        click.echo(f"{_SIGNS[change.kind]} {change.topic}: {change.kind.value}: {change.text}")
    if not changes:
        click.echo("the topics are as declared")
