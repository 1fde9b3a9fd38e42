"""A process that writes rows to a sink, to be killed: ``python -m tests.contract.writer PLAN``, with a plan as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import Case


@dataclass(frozen=True, slots=True)
class WriterPlan:
    """What a process writes: the standard rows of a type, in batches of `size`.

    Attributes:
        kind, rows: of the sink.
        options: of the sink.
        pipeline: the settings of the pipeline that it joins.
        size: rows of a batch.
        is_killed: whether it is killed when the last write has returned, instead of closing the sink.
    """

    kind: str
    rows: str
    options: dict[str, Any]
    pipeline: dict[str, Any] = field(default_factory=dict)
    size: int = 12
    is_killed: bool = False

    @property
    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.contract.writer", json.dumps(asdict(self))]

    def write(self) -> None:
        """Write, and end as planned."""
        case = Case(self.kind, "", ROW_TYPES[self.rows])
        content = case.rows()
        sink = configured_sink({self.kind: self.options}, self.kind, Settings.model_validate(self.pipeline)).sink
        sink.open()
        for at in range(0, len(content), self.size):
            sink.write(case.parts(content[at : at + self.size]))
        if self.is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        sink.close()


if __name__ == "__main__":
    WriterPlan(**json.loads(sys.argv[1])).write()
