"""`blobtide topics`: compare the declared topics with the broker, or apply them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.pretty import Table, show_table
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.kafka.topics.admin import TopicChange, TopicSpec
    from libs.common.settings.kafka import KafkaSettings, TopicSettings

DIFFERENT = 1

_file_option = click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Topic declaration (YAML). Default: blobtide's own topics.yaml.",
)
_servers_option = click.option("--bootstrap-servers", help="Kafka brokers; overrides kafka.bootstrap_servers.")
_replicas_option = click.option(
    "--replication-factor", type=click.IntRange(min=1), help="Replicas of each partition.  [default: as declared]"
)
_wait_option = click.option("--wait", type=click.FloatRange(min=0), help="Seconds to wait for Kafka to respond.  [default: 5]")


@click.group(epilog=examples("blobtide topics diff", "blobtide topics apply --wait 60 --replication-factor 3"))
def command() -> None:
    """Compare the declared topics with Kafka, or apply them."""


@command.command(short_help="Show differences; exit code 1 if there are any.")
@config_option
@_file_option
@_servers_option
@_replicas_option
@click.pass_context
def diff(context: click.Context, /, **options: Any) -> None:
    """Show differences; exit code 0 if there are none, 1 if there are."""
    from libs.common.kafka.topics.admin import plan_topics

    changes = plan_topics(*_declared(options))
    _show(changes)
    if changes:
        context.exit(DIFFERENT)


@command.command()
@config_option
@_file_option
@_servers_option
@_replicas_option
@_wait_option
@click.option(
    "--lenient", is_flag=True, help="Exit with 0 even if differences remain; for scripts that start whatever can run."
)
@click.pass_context
def apply(context: click.Context, /, **options: Any) -> None:
    """Create missing topics, alter configurations and add partitions. Nothing is deleted or shrunk.

    The exit code is 0 if the topics are now as declared, 1 if differences remain for you to resolve.
    """
    from libs.common.kafka.client.configs import check_reachable
    from libs.common.kafka.topics.admin import ChangeKind, apply_topics

    kafka, topics, specs = _declared(options)
    if wait := options["wait"]:
        check_reachable(kafka, seconds=wait)
    changes = apply_topics(kafka, topics, specs)
    _show(changes)
    refused = [change for change in changes if change.kind is ChangeKind.REFUSED]
    say(f"{len(changes) - len(refused)} changes made, {len(refused)} left for you to resolve; nothing was deleted or shrunk")
    if refused and not options["lenient"]:
        context.exit(DIFFERENT)


def _declared(options: Mapping[str, Any]) -> tuple[KafkaSettings, TopicSettings, list[TopicSpec]]:
    from libs.common.kafka.topics.admin import load_topic_specs

    settings = load_logged(options["config"], "topics")
    kafka = settings.kafka
    if servers := options["bootstrap_servers"]:
        kafka = kafka.model_copy(update={"bootstrap_servers": servers})
    return kafka, settings.topics, load_topic_specs(options["file"], options["replication_factor"])


_SIGNS = {"create": "+", "add partitions": "+", "alter": "~", "refused": "!"}
_STYLES = {"+": "green", "~": "yellow", "!": "red"}


def _show(changes: Sequence[TopicChange]) -> None:
    if not changes:
        say("the topics are as declared")
        return
    rows = [(_SIGNS[change.kind], change.topic, change.kind.value, change.text) for change in changes]
    show_table(
        Table(("", "TOPIC", "CHANGE", "WHAT"), rows, lambda row: _STYLES[row[0]]),
        lambda table: (f"{sign} {topic}: {kind}: {text}" for sign, topic, kind, text in table.rows),
    )
