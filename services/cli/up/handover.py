"""Pass settings to a child process through a pipe, which is empty once they are read.

A command line is readable by everyone; an environment stays readable for as long as the process runs, and its children inherit
it. A pipe has a single reader, and the child needs no special support: the pipe is its settings file.
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
    """Provide a descriptor to pass to a child, which reads the settings once from ``/dev/fd/<descriptor>``."""
    reading, writing = os.pipe()
    text = yaml.safe_dump(dict(settings), sort_keys=False).encode()
    # The settings may exceed a pipe's capacity, so a thread waits for the reader.
    threading.Thread(target=_write, args=(writing, text), name="settings", daemon=True).start()
    try:
        yield reading
    finally:
        os.close(reading)


def _write(descriptor: int, text: bytes) -> None:
    with (
        suppress(BrokenPipeError),
        os.fdopen(descriptor, "wb") as pipe,
    ):  # a child that dies before reading is noticed elsewhere
        pipe.write(text)
