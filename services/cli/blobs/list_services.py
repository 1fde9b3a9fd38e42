"""``blobtide list-services``: what the selectors of the settings find in storage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from libs.common.errors import BlobtideError
from services.cli.blobs.browse import Found, Wanted, blobs_of, end_with, territories_of, wanted_options
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.pretty import ProgressLine, Table, show_table
from services.cli.terminal import say

if TYPE_CHECKING:
    from services.blob_monitor.sources import Territory

_HEADING = ("ENVIRONMENT", "CONTAINER", "SERVICE", "BLOBS", "BYTES", "FIRST WRITTEN", "LAST WRITTEN")


@dataclass(slots=True)
class _Sums:
    """What one selector, or one source without selectors, finds."""

    territory: Territory
    blobs: int = 0
    bytes: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, found: Found) -> None:
        """Add a blob."""
        blob = found.blob
        self.blobs, self.bytes = self.blobs + 1, self.bytes + blob.size
        self.first = min(self.first or blob.last_modified, blob.last_modified)
        self.last = max(self.last or blob.last_modified, blob.last_modified)

    def values(self) -> dict[str, Any]:
        """Return it as JSON has it; times are null if there is no blob."""
        return {
            "environment": self.territory.alias,
            "container": self.territory.container,
            "service": self.territory.selector or None,
            "prefix": self.territory.prefix,
            "blobs": self.blobs,
            "bytes": self.bytes,
            "first_written": self.first and f"{self.first:%Y-%m-%dT%H:%M:%SZ}",
            "last_written": self.last and f"{self.last:%Y-%m-%dT%H:%M:%SZ}",
        }


@click.command(
    "list-services", epilog=examples("blobtide list-services --env prod --date 20260501", "blobtide list-services --json")
)
@wanted_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@config_option
def command(config: Path | None, *, as_json: bool, **choice: Any) -> None:
    """Count what each selector finds in storage: blobs, bytes, when the first and the last of them were written.

    A source without selectors is one line, with the service -. Without --date, everything is listed, which takes a while.
    """
    settings, wanted = load_logged(config, "list-services"), Wanted(**choice)
    progress = ProgressLine(None)
    sums: list[_Sums] = []
    failed: list[BlobtideError] = []
    for territory in territories_of(settings, wanted):
        sums.append(_Sums(territory))
        try:
            for found in blobs_of(settings, territory, wanted):
                sums[-1].add(found)
                progress.show(sums[-1].blobs, _said(sums[-1]))
        except BlobtideError as problem:
            failed.append(problem)
            sums.pop()
    progress.clear()
    _show(sums, as_json=as_json)
    end_with("list-services", failed)


def _show(sums: list[_Sums], *, as_json: bool) -> None:
    if as_json:
        for one in sums:
            say(json.dumps(one.values(), separators=(",", ":")))
        return
    rows = [one.values() for one in sums]
    names = ("environment", "container", "service", "blobs", "bytes", "first_written", "last_written")
    show_table(Table(_HEADING, [["-" if row[name] is None else str(row[name]) for name in names] for row in rows]))


def _said(sums: _Sums) -> Callable[[], str]:
    return lambda: f"{sums.territory.key}: {sums.blobs:,} blobs"
