"""A process that writes rows to a sink, to be killed: ``python -m tests.contract.writer KIND OPTIONS ROWS_A_BATCH``."""

from __future__ import annotations

import json
import sys

from services.sinks.frame.registry import configured_sink
from tests.contract.harness import parts
from tests.flows import rows


def main() -> None:
    """Write the standard rows in batches, then close."""
    kind, options, size = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    content = rows()
    sink = configured_sink({kind: options}, kind).sink
    sink.open()
    for at in range(0, len(content), size):
        sink.write(parts(content[at : at + size]))
    sink.close()


if __name__ == "__main__":
    main()
