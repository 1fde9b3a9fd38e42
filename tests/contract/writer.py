"""A process that writes rows to a sink, to be killed: ``python -m tests.contract.writer KIND ROWS OPTIONS ROWS_A_BATCH``."""

from __future__ import annotations

import json
import sys

from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import Case


def main() -> None:
    """Write the standard rows in batches, then close."""
    kind, row_type, options, size = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
    case = Case(kind, "", ROW_TYPES[row_type])
    content = case.rows()
    sink = configured_sink({kind: options}, kind, Settings()).sink
    sink.open()
    for at in range(0, len(content), size):
        sink.write(case.parts(content[at : at + size]))
    sink.close()


if __name__ == "__main__":
    main()
