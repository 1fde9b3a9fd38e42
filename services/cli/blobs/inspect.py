"""``blobtide inspect``: everything about one blob, from storage, from the settings and from Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from libs.common.errors import CodecError, ConfigError, ServerUnreachable
from libs.common.settings import Settings
from services.cli.blobs.known import known_of, rule_of
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.azure.storage.api import BlobInfo, Block
    from libs.common.messages.blobs import BlobId
    from libs.common.messages.events import BlobCheckpoint, BlobCompletion, BlobState

_BLOB: Final = "cp2.P1/commerce-logs-separated/kubernetes/20260501.api-1_default_platform-4f.gz"
_SHOWN_BLOCKS: Final = 3
_GONE: Final = "it does not exist, or no longer"

Values = dict[str, Any]


@click.command(epilog=examples(f"blobtide inspect {_BLOB}", f"blobtide inspect --json {_BLOB} | jq .checkpoint"))
@click.argument("blob")
@click.option("--all-blocks", is_flag=True, help="Show every block, not only the first and last three.")
@click.option("--no-kafka", is_flag=True, help="Ask only storage.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@config_option
def command(config: Path | None, blob: str, *, all_blocks: bool, no_kafka: bool, as_json: bool) -> None:
    """Show what is known about BLOB (account/container/name, as `blobtide list-blobs` prints it).

    From storage: its properties and committed blocks. From the settings: which source takes it, and its labels. From Kafka:
    what the monitor has seen of it, the checkpoint of ingest with its generation, and the ranges that were published.
    """
    from libs.common.messages.blobs import BlobId

    settings = load_logged(config, "inspect")
    try:
        wanted = BlobId.parse(blob)
    except CodecError as error:
        raise ConfigError(str(error)) from error
    shown: Values = {"blob": str(wanted), "storage": _stored(settings, wanted, all_blocks=all_blocks)}
    shown["source"] = _source(settings, wanted)
    if not no_kafka:
        known = known_of(settings, wanted)
        shown["state"], shown["checkpoint"] = _event(known.state), _event(known.checkpoint)
        shown["completions"] = [_event(one) for one in known.completions]
    say(json.dumps(shown, default=_plain, ensure_ascii=False) if as_json else "\n".join(_lines(shown)))


def _stored(settings: Settings, blob: BlobId, *, all_blocks: bool) -> Values | None:
    """Return what storage says; None if there is no such blob."""
    from libs.common.azure.storage.api import BlobGone, StorageError
    from libs.common.azure.storage.blobs import open_container

    account = next((one for alias, one in _accounts(settings) if alias == blob.account), None)
    if account is None:
        known = ", ".join(alias for alias, _ in _accounts(settings)) or "none"
        raise ConfigError(f"the settings have no environment {blob.account}; known are {known}")
    with closing(open_container(account.storage, blob.account, blob.container)) as container:
        try:
            info = container.info(blob.name)
            blocks = container.block_list(blob.name).blocks if info.blob_type == "BlockBlob" else ()
        except BlobGone:
            return None
        except StorageError as error:
            raise ServerUnreachable(f"{blob.account}: {error}") from error
    return _properties(info) | _blocks(blocks, all_blocks=all_blocks)


def _accounts(settings: Settings) -> Iterator[tuple[str, Any]]:
    from libs.common.settings.storage import account_alias

    for subscription, content in settings.subscriptions.items():
        for name, environment in content.environments.items():
            yield account_alias(subscription, name), environment


def _properties(info: BlobInfo) -> Values:
    return {
        "size": info.size,
        "blob_type": info.blob_type,
        "etag": info.etag,
        "last_modified": info.last_modified,
        "creation_time": info.creation_time,
        "archived": info.archived,
    }


def _blocks(blocks: Iterable[Block], *, all_blocks: bool) -> Values:
    found, start = [], 0
    for block in blocks:
        found.append({"id": block.id, "start": start, "size": block.size})
        start += block.size
    left_out = 0 if all_blocks else max(0, len(found) - 2 * _SHOWN_BLOCKS)
    kept = found if not left_out else found[:_SHOWN_BLOCKS] + found[-_SHOWN_BLOCKS:]
    return {"committed_blocks": len(found), "blocks": kept}


def _source(settings: Settings, blob: BlobId) -> Values | None:
    """Return which source takes the blob; None if the settings do not cover it."""
    taken = rule_of(settings, blob)
    if taken is None:
        return None
    territory, rule = taken
    labels = dict(rule.labels(blob.name, territory.place))
    return {"prefix": territory.prefix, "layout": territory.layout, "stream": rule.stream, "labels": labels}


def _event(event: BlobState | BlobCheckpoint | BlobCompletion | None) -> Values | None:
    return None if event is None else {name: value for name, value in asdict(event).items() if name != "blob"}


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield it for people, a value a line; what is unset is left out."""
    for name, content in shown.items():
        if name == "blob":
            yield content
        elif content is None or content == []:
            yield f"{name}: {_absent(name)}"
        elif isinstance(content, list):
            yield f"{name}:"
            yield from (f"  {_inline(one)}" for one in content)
        else:
            yield f"{name}:"
            yield from _group(content)


def _group(content: Mapping[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, list):
            yield from (f"  {key[:-1]} {_inline(one)}" for one in value)
        elif value not in (None, "", {}):
            yield f"  {key}: {_inline(value) if isinstance(value, dict) else _value(value)}"


def _inline(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_value(value)}" for key, value in values.items() if value not in (None, ""))


def _value(value: object) -> str:
    return value.value if isinstance(value, StrEnum) else _plain(value)


def _absent(name: str) -> str:
    texts = {
        "storage": _GONE,
        "source": "the settings do not cover it",
        "state": "the monitor has not announced it",
        "checkpoint": "ingest has not read it",
    }
    return texts.get(name, "none, or no longer in the topic")
