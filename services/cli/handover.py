"""Settings on their way to a child process: through a pipe, which is empty once they are read.

A command line is everybody's to read, and an environment stays readable for as long as the process runs, and is handed on to
what it starts. A pipe has one reader, and the child needs nothing new for it: its settings file is the pipe.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import yaml


@contextmanager
def handed_over(settings: Mapping[str, Any]) -> Iterator[int]:
    """Give the descriptor to pass on to a child, which reads the settings from ``/dev/fd/<descriptor>``, once."""
    reading, writing = os.pipe()
    text = yaml.safe_dump(dict(settings), sort_keys=False).encode()
    # They may be larger than a pipe, so somebody else has to wait for the reader.
    threading.Thread(target=_write, args=(writing, text), name="settings", daemon=True).start()
    try:
        yield reading
    finally:
        os.close(reading)


def _write(descriptor: int, text: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as pipe:  # a child that dies before it reads is seen elsewhere
        pipe.write(text)
