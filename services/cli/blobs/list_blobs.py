"""``blobtide list-blobs``: the blobs that the settings cover, as storage has them now, and how far they have been read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from libs.common.errors import BlobtideError
from libs.common.settings import Settings
from services.cli.blobs.browse import Found, Wanted, blobs_of, end_with, territories_of, wanted_options
from services.cli.blobs.progress import BlobProgress, ProgressOfBlobs
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.terminal import say

_HEADING: Final = f"{'SIZE':>13}  {'LAST MODIFIED':20}  {'STATE':6}  {'READING':10}  {'READ':>13}  {'LAG':>13}  BLOB"


@click.command(
    "list-blobs",
    epilog=examples(
        "blobtide list-blobs --env prod --date 20260501",
        "blobtide list-blobs --service api --long",
        "blobtide list-blobs --json --max-per-env 10 | jq -r .blob",
    ),
)
@wanted_options
@click.option("--max-per-env", type=click.IntRange(min=1), help="Stop after so many blobs of each environment.")
@click.option("--long", "is_long", is_flag=True, help="Also show state, and how far ingest has read; this needs Kafka.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@config_option
def command(config: Path | None, max_per_env: int | None, *, is_long: bool, as_json: bool, **choice: Any) -> None:
    """List the blobs that the settings cover, page by page, as storage has them now.

    With --long, STATE is what the monitor knows: unseen, open or closed. READING is what ingest has done: unread, open,
    complete, or incomplete if the blob was replaced or deleted first. READ and LAG are bytes of the blob; what ends a flow log
    is never read. An environment that cannot be listed is named at the end, and the exit code says so.
    """
    settings, wanted = load_logged(config, "list-blobs"), Wanted(**choice)
    chosen = territories_of(settings, wanted)
    starts = {f"{territory.alias}/{territory.container}/" for territory in chosen}
    progress = ProgressOfBlobs.load(settings, starts) if is_long else None
    if is_long and not as_json:
        say(_HEADING)
    failed: list[BlobtideError] = []
    for found in _all(settings, wanted, max_per_env, failed):
        known = progress.of(found.id.encode(), found.blob) if progress is not None else None
        say(_document(found, known) if as_json else _line(found, known))
    end_with("list-blobs", failed)


def _all(settings: Settings, wanted: Wanted, most: int | None, failed: list[BlobtideError]) -> Iterator[Found]:
    shown: Counter[str] = Counter()
    for territory in territories_of(settings, wanted):
        try:
            for found in blobs_of(settings, territory, wanted):
                if most is not None and shown[territory.alias] >= most:
                    break
                shown[territory.alias] += 1
                yield found
        except BlobtideError as error:
            failed.append(error)


def _line(found: Found, known: BlobProgress | None) -> str:
    blob = found.blob
    if known is None:
        return found.id
    return (
        f"{blob.size:13}  {blob.last_modified:%Y-%m-%dT%H:%M:%SZ}  {known.state:6}  {known.reading:10}  {known.read:13}"
        f"  {known.lag:13}  {found.id}"
    )


def _document(found: Found, known: BlobProgress | None) -> str:
    blob = found.blob
    values: dict[str, object] = {
        "blob": found.id,
        "size": blob.size,
        "last_modified": f"{blob.last_modified:%Y-%m-%dT%H:%M:%SZ}",
        "blob_type": blob.blob_type,
        "etag": blob.etag,
        "labels": dict(found.labels),
    }
    if known is not None:
        values |= {"state": known.state, "reading": known.reading, "read": known.read, "lag": known.lag}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
