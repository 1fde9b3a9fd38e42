"""Read small text files (settings, and files named by settings) within limits on size and time, whatever the path names.

An operator may name anything: an endless device, a named pipe without a writer, a directory, binary data. A pipe with a
writer, such as ``--config <(sops -d file)``, is read like a file.
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
    """Return the text of `path`; errors call it `what`, for example ``password_file``.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, is larger than `MOST_BYTES`, or did not reach its end within `seconds`.
    """
    name = f"{what} {path}" if what else str(path)
    try:
        data = _read(path, name, time.monotonic() + seconds)
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror or error}") from error
    except ValueError as error:  # the name contains a NUL
        raise ConfigError(f"cannot read {name}: {error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text: byte {error.start} is not valid UTF-8") from error


def _read(path: Path, name: str, until: float) -> bytes:
    # Non-blocking: otherwise, opening a pipe without a writer would never return.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        data = bytearray()
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        while waiting.poll(max(0.0, until - time.monotonic()) * 1_000):
            with suppress(BlockingIOError):  # another reader was faster
                chunk = os.read(file, _STEP_BYTES)
                data += chunk
                if not chunk:
                    return bytes(data)
            if len(data) > MOST_BYTES:
                raise ConfigError(f"{name} has more than {MOST_BYTES:,} bytes: it is probably the wrong file")
        raise ConfigError(f"cannot read {name}: timed out before its end; is it a pipe without a writer?")
    finally:
        os.close(file)
