"""``blobtide collect``: send requests for Azure configuration to the collector."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from libs.common.errors import ConfigError
from libs.common.settings.collector import Priority
from services.cli.collector.input import requests_in
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.terminal import say
from services.collector.requests.defaults import filling_of
from services.collector.requests.items import check_calls
from services.collector.requests.schema import CollectionRequest, RequestRefused, write_request
from services.collector.requests.templates import TEMPLATES, calls_of

if TYPE_CHECKING:
    from libs.common.settings import Settings

_SUBSCRIPTION_EXAMPLE: Final = "00000000-0000-0000-0000-000000000000"
_AT_ONCE: Final = 100  # requests that are written together


@dataclass(frozen=True, slots=True)
class TemplateChoice:
    """What is asked for by templates."""

    templates: tuple[str, ...]
    subscriptions: tuple[str, ...]
    values: Mapping[str, str]
    priority: Priority


def _values(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise click.BadParameter(f"{wrong[0]}: give NAME=VALUE")
    return {name: value for name, _, value in pairs}


@click.command(
    epilog=examples(
        "blobtide collect requests.json",
        f"blobtide collect --template vms --template nics --subscription {_SUBSCRIPTION_EXAMPLE}",
        "blobtide collector examples | blobtide collect -",
    )
)
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--template",
    "templates",
    multiple=True,
    type=click.Choice(list(TEMPLATES)),
    metavar="NAME",
    help="What to list, as `blobtide collector templates` names it; repeatable.",
)
@click.option("--subscription", "subscriptions", multiple=True, help="Id of a subscription to list it in; repeatable.")
@click.option(
    "--set",
    "values",
    multiple=True,
    callback=_values,
    metavar="NAME=VALUE",
    help="Another parameter of a template; repeatable.",
)
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="Of a request made from templates.",
)
@config_option
def command(file: BinaryIO | None, config: Path | None, priority: str, **asked: Any) -> None:
    """Send requests to the collector: those in FILE (- for standard input), or one made from templates.

    FILE holds one JSON object, or one on each line. Nothing is sent unless all calls can be made. The ids of the requests are
    printed; `blobtide tail collection_results` shows the answers.
    """
    wanted = TemplateChoice(**asked, priority=Priority(priority))
    if (file is None) == (not wanted.templates):
        raise click.UsageError("Give either a FILE or --template.")
    settings = load_logged(config, "collect")
    requests = list(requests_in(file)) if file is not None else [_from_templates(wanted)]
    for request in requests:
        _check(request, settings)
    for begin in range(0, len(requests), _AT_ONCE):
        _send(settings, requests[begin : begin + _AT_ONCE])


def _from_templates(wanted: TemplateChoice) -> CollectionRequest:
    """Return one request for all templates in all subscriptions."""
    if not wanted.subscriptions:
        raise click.UsageError("--template requires --subscription.")
    try:
        calls = calls_of(wanted.templates, wanted.subscriptions, wanted.values)
    except RequestRefused as error:
        raise ConfigError(f"{error} (--set NAME=VALUE)") from error
    return CollectionRequest(
        message_id=str(uuid.uuid4()), api_requests=calls, timestamp=datetime.now(UTC), priority=wanted.priority
    )


def _check(request: CollectionRequest, settings: Settings) -> None:
    """Raise ConfigError if one of the calls cannot be made. What the collector fills in by itself may be left open."""
    try:
        check_calls(filling_of(settings.collector)(request), frozenset(settings.collector.methods))
    except RequestRefused as error:
        raise ConfigError(f"request {request.message_id}: {error}") from error


def _send(settings: Settings, requests: list[CollectionRequest]) -> None:
    from libs.common.kafka.records import Outbound
    from libs.common.kafka.writing import write

    topic = settings.topics.collection_requests
    write(settings.kafka, [Outbound(topic, write_request(one), one.message_id.encode()) for one in requests])
    for request in requests:
        say(request.message_id)
