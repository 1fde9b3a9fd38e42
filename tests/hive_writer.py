"""A process that writes rows of several hours to a file sink, to be killed: ``python -m tests.hive_writer OPTIONS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from services.sinks.frame.contract import Part
from services.sinks.frame.registry import configured_sink
from tests.flows import part
from tests.hive import rows_of_hours

CONTENT = rows_of_hours(4)
BATCH = 12


def parts(content: Sequence[dict[str, Any]], shard: int = 1) -> list[Part]:
    """Return rows as the one part of a write."""
    return [part(shard, content)]


def main() -> None:
    """Write the rows in batches, then close."""
    sink = configured_sink({"file": json.loads(sys.argv[1])}, "file").sink
    sink.open()
    for at in range(0, len(CONTENT), BATCH):
        sink.write(parts(CONTENT[at : at + BATCH]))
    sink.close()


if __name__ == "__main__":
    main()
