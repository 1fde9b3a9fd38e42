"""``blobtide collector``: templates and examples of requests for Azure configuration, and a check of one's own."""

from __future__ import annotations

from typing import BinaryIO, Final

import click
import msgspec

from libs.common.errors import BlobtideError, ConfigError
from libs.common.http.method import Method
from libs.common.suggestions import did_you_mean
from services.cli.collector.input import requests_in
from services.cli.help_text import examples
from services.cli.pretty import Table, show_table
from services.cli.terminal import say
from services.collector.requests.defaults import assumed
from services.collector.requests.items import RefusedItem, WorkItem, work_items
from services.collector.requests.schema import CollectionRequest, write_request
from services.collector.requests.templates import TEMPLATES, example_requests

_OTHER_METHODS: Final = [method.value for method in Method if method is not Method.GET]


class SomeRefused(BlobtideError):
    """Some of the calls that were checked cannot be made."""


@click.group(
    epilog=examples(
        "blobtide collector templates            # what is listed, with which permission",
        "blobtide collector templates vms        # one call as JSON",
        "blobtide collector examples > requests.json",
        "blobtide collector check requests.json",
    )
)
def command() -> None:
    """Show what requests for Azure configuration look like, and check your own.

    A request lists calls of the API of Azure Resource Manager. Nothing is sent to Azure here.
    """


@command.command(short_help="List the templates, or print one.")
@click.argument("name", required=False)
def templates(name: str | None) -> None:
    """List the templates of calls; or print the template NAME as JSON, for the list api_requests of a request."""
    if name is None:
        rows = [(one.name, ", ".join(one.parameters), one.permission, one.lists) for one in TEMPLATES.values()]
        show_table(Table(("NAME", "PARAMETERS", "PERMISSION", "LISTS"), rows))
        return
    if name not in TEMPLATES:
        raise ConfigError(f"unknown template {name!r}{did_you_mean(name, TEMPLATES)} (known are {', '.join(TEMPLATES)})")
    template = TEMPLATES[name]
    call = template.request({parameter: f"<{parameter}>" for parameter in template.parameters})
    say(msgspec.json.format(msgspec.json.encode(call)).decode())


@command.command("examples", short_help="Print examples of requests.")
def show_examples() -> None:
    """Print examples of requests, one JSON object on each line."""
    for request in example_requests():
        say(write_request(request).decode())


@command.command(short_help="Check requests, and show the calls that they make.")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    type=click.Choice(_OTHER_METHODS),
    help="A method besides GET that may be used; repeatable.",
)
@click.option(
    "--defaults",
    is_flag=True,
    help="Let requests leave the subscription and the tenant open, as where collector.key_vault is set.",
)
def check(file: BinaryIO, allowed: tuple[str, ...], *, defaults: bool) -> None:
    """Check the requests in FILE (- for standard input): one JSON object, or one on each line. Print the calls they make.

    The exit code is 1 if any of the calls cannot be made.
    """
    methods = frozenset(map(Method, allowed))
    requests = (assumed(request) if defaults else request for request in requests_in(file))
    refused = sum(_refused(request, methods) for request in requests)
    if refused:
        raise SomeRefused(f"{refused} of the calls cannot be made")


def _refused(request: CollectionRequest, methods: frozenset[Method]) -> int:
    """Print the calls of a request; return how many cannot be made."""
    items = list(work_items(request, methods))
    for item in items:
        say(f"{request.message_id} {item.index}  {_shown(item)}")
    return sum(isinstance(item, RefusedItem) for item in items)


def _shown(item: WorkItem | RefusedItem) -> str:
    if isinstance(item, RefusedItem):
        return f"refused: {item.reason}"
    query = "&".join(f"{name}={value}" for name, value in item.call.query)
    return f"{item.call.method} {item.call.path}?{query}"
