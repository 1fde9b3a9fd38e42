"""Small text files that settings name or are: read with bounds in size and time, whatever stands under the name.

An operator may name anything: a device without an end, a named pipe that nobody writes to, a directory, rubbish. A pipe that
somebody writes to, as ``--config <(sops -d file)`` is one, is read like a file.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from libs.common.errors import ConfigError

MOST_BYTES: Final = 1_048_576
PIPE_SECONDS: Final = 10.0
_STEP_BYTES: Final = 65_536


def read_text_file(path: Path, what: str, seconds: float = PIPE_SECONDS) -> str:
    """Return the text of `path`; `what` is what errors call it, such as ``password_file``.

    Raises:
        ConfigError: it cannot be read, is no UTF-8 text, has more than `MOST_BYTES`, or nothing came of it within `seconds`.
    """
    name = f"{what} {path}" if what else str(path)
    try:
        data = _read(path, name, time.monotonic() + seconds)
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise ConfigError(f"cannot read {name}: {error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text: byte {error.start} is no UTF-8") from error


def _read(path: Path, name: str, until: float) -> bytes:
    # Not blocking: to open a pipe that nobody writes to would otherwise never end.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        data = bytearray()
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        while waiting.poll(max(0.0, until - time.monotonic()) * 1_000):
            with suppress(BlockingIOError):  # another reader was faster
                piece = os.read(file, _STEP_BYTES)
                data += piece
                if not piece:
                    return bytes(data)
            if len(data) > MOST_BYTES:
                raise ConfigError(f"{name} has more than {MOST_BYTES:,} bytes: it is not what is meant")
        raise ConfigError(
            f"cannot read {name}: it has no end, and nothing came of it in time; is it a pipe that nobody writes to?"
        )
    finally:
        os.close(file)
