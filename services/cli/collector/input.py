"""Requests for configuration in a file or on standard input: one JSON object, or one on each line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from libs.common.errors import ConfigError
from services.collector.requests.schema import MOST_BYTES, CollectionRequest, RequestRefused, read_request


def requests_in(file: BinaryIO) -> Iterator[CollectionRequest]:
    """Yield the requests in `file`, which is not read further than what is yielded needs.

    Raises:
        ConfigError: if one is refused; names file and line.
    """
    name = getattr(file, "name", "standard input")
    first = file.read(MOST_BYTES + 1)
    if _is_one_document(first):
        yield _request(first, name)
        return
    found = False
    for number, line in enumerate(_lines(first, file), 1):
        if line.strip():
            found = True
            yield _request(line, f"{name}, line {number}")
    if not found:
        raise ConfigError(f"{name}: holds no request; `blobtide collector examples` shows some")


def _is_one_document(data: bytes) -> bool:
    """Return whether `data` is one JSON document, or the beginning of one that is too large anyway."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except RecursionError:  # reading it says why it is none
        return True
    except msgspec.DecodeError:
        return len(data) > MOST_BYTES and b"\n{" not in data
    return True


def _lines(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of `first` and of what follows it in `file`; none is longer than needed to refuse it."""
    lines = first.splitlines()
    last = lines.pop() if lines and not first.endswith(b"\n") else b""
    yield from lines
    if last := last + file.readline(MOST_BYTES + 1):
        yield last
    while line := file.readline(MOST_BYTES + 1):
        yield line


def _request(data: bytes, place: str) -> CollectionRequest:
    try:
        return read_request(data)
    except RequestRefused as error:
        raise ConfigError(f"{place}: {error}") from error
