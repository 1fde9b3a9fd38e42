"""Hostile inputs, made where they are needed: each is small or plain to look at, and large to whoever builds what it says.

As a program it reads one of them with `convert` and as a blob, in a process that may not have more than so much memory.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import resource
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import zstandard

from libs.common.errors import BlobtideError

MEMORY = 512 * 1_048_576
MB = 1_048_576
TUPLE = '"1663146003599,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0"'
BEFORE = b'{"category":"FlowLogFlowEvent","flowLogVersion":4,"flowRecords":{"flows":[{"flowGroups":[{"flowTuples":['
AFTER = b"]}]}]}}"
RECORD = BEFORE + TUPLE.encode() + AFTER
HEAD, TAIL = b'{"records":[', b"]}"


@dataclass(frozen=True)
class Case:
    """One input, and how many rows must come of it: the records before and behind what is hostile, where that has an end."""

    make: Callable[[], bytes]
    rows: int
    as_blob: bool = True  # is as hostile when it is a blob


def _between(*texts: bytes) -> bytes:
    return HEAD + b",".join([RECORD, *texts, RECORD]) + TAIL


def _tuples(texts: bytes) -> bytes:
    return _between(BEFORE + texts + AFTER)


def _packed(text: bytes, times: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(text) for _ in range(times)), packer.flush()])


def zstd_of(text: bytes, times: int) -> bytes:
    """Return a zstd frame with a text so many times."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join([*(packer.compress(text) for _ in range(times)), packer.flush()])


def with_window(data: bytes, log: int) -> bytes:
    """Return a zstd frame that demands a window of ``1 << log`` bytes."""
    return data[:5] + bytes([log - 10 << 3]) + data[6:]


def _long_names() -> bytes:
    word = json.dumps("\x01" * 1000)
    names = "".join(f'"{name}":{word},' for name in ("flowLogGUID", "flowLogResourceID", "targetResourceID", "systemId"))
    record = b"{" + names.encode() + BEFORE[1:] + b",".join([TUPLE.encode()] * 10_000) + AFTER
    return HEAD + record + TAIL


CASES = {
    "deep arrays that close": Case(lambda: _between(b"[" * (8 * MB) + b"]" * (8 * MB)), 2),
    "deep arrays that do not": Case(lambda: HEAD + RECORD + b"," + b"[" * (17 * MB), 1),
    "deep objects": Case(lambda: HEAD + RECORD + b"," + b'{"a":' * (3 * MB), 1),
    "wide arrays": Case(lambda: _between(b"[" + b"[]," * (5 * MB) + b"[]]"), 2),
    "empty records": Case(lambda: _between(*[b"{}"] * 120_000), 2),
    "empty records without separators": Case(lambda: RECORD + b"{}" * 120_000 + RECORD, 2),
    "numbers for records": Case(lambda: _between(*[b"1"] * 120_000), 2),
    "rubbish for records": Case(lambda: HEAD + RECORD + b"," + b"x," * (2 * MB), 1),
    "a giant string": Case(lambda: _between(b'{"a":"' + b"z" * (14 * MB) + b'"}'), 2),
    "a giant string of escapes": Case(lambda: _between(b'{"a":"' + b'\\"' * (7 * MB) + b'"}'), 2),
    "a string without an end": Case(lambda: HEAD + RECORD + b',{"a":"' + b"z" * (40 * MB), 1),
    "a wide string without an end": Case(lambda: HEAD + RECORD + b',{"a":"' + "€".encode() * (12 * MB), 1),
    "a giant number": Case(lambda: _between(b'{"a":' + b"9" * (14 * MB) + b"}"), 2),
    "a huge key": Case(lambda: _between(b'{"' + b"k" * (14 * MB) + b'":1}'), 2),
    "very many keys": Case(lambda: _between(b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}"), 2),
    "tiny tuples": Case(lambda: _tuples(b'"",' * 120_000 + b'""'), 2),
    "tiny tuples with spaces": Case(lambda: _tuples(b'"" ,' * 120_000 + b'""'), 2),
    "numbers for tuples": Case(lambda: _tuples(b"1," * 120_000 + b"1"), 2),
    "short tuples": Case(lambda: _tuples(b'"1,::,::,1,1,6,I,B",' * 300_000 + TUPLE.encode()), 300_003),
    "arrays without tuples": Case(
        lambda: _between(BEFORE[:-14] + b'"flowTuples":[]},{' * 300_000 + b'"flowTuples":[' + AFTER), 2
    ),
    "the longest names": Case(_long_names, 10_000),
    "bad lines": Case(lambda: RECORD + b"\n" + b"x\n" * 120_000 + RECORD, 2),
    "blank lines": Case(lambda: RECORD + b"\n" * (3 * MB) + RECORD, 2),
    "a long line": Case(lambda: RECORD + b"\n" + b"x" * (40 * MB) + b"\n" + RECORD, 1),
    "spaces": Case(lambda: b" " * (40 * MB) + RECORD, 0),
    "commas": Case(lambda: _between(b"," * (16 * MB)), 2),
    "ends of documents": Case(lambda: HEAD + RECORD + b"]}" * (8 * MB), 1),
    "beginnings of documents": Case(lambda: RECORD + HEAD * 100_000, 0),
    "empty documents": Case(lambda: (HEAD + TAIL) * 50_000 + RECORD, 1),
    "keys without an end": Case(lambda: HEAD + RECORD + b'],"k":' + b"[" * (16 * MB), 1),
    "NULs": Case(lambda: RECORD + b"\n" + b"\0" * (16 * MB), 1),
    "noise": Case(lambda: random.Random(1).randbytes(8 * MB), 0),
    "a gzip bomb": Case(lambda: _packed(b"x" * MB, 1_000), 0, as_blob=False),
    "a gzip bomb of lines": Case(lambda: _packed(b"x\n" * (MB // 2), 70), 0, as_blob=False),
    "a gzip bomb of spaces": Case(lambda: _packed(b" " * MB, 1_000), 0, as_blob=False),
    "a gzip bomb in gzip": Case(lambda: gzip.compress(_packed(b"x" * MB, 1_000)), 0, as_blob=False),
    "a zstd bomb": Case(lambda: zstd_of(b"x" * MB, 1_000), 0, as_blob=False),
    "a zstd bomb of lines": Case(lambda: zstd_of(b"x\n" * (MB // 2), 70), 0, as_blob=False),
    "zstd with a giant window": Case(lambda: with_window(zstd_of(b"x" * MB, 1_000), 40), 0, as_blob=False),
    "zstd that is none": Case(lambda: b"\x28\xb5\x2f\xfd" + b"\0" * 1_000, 0, as_blob=False),
    "UTF-16": Case(lambda: (HEAD + b",".join([RECORD] * 20_000) + TAIL).decode().encode("utf-16"), 20_000, as_blob=False),
}


def converted(name: str, folder: Path) -> int:
    """Convert the case in `folder`; return how many rows came. Whatever is wrong is an exit code and a summary."""
    from services.cli.convert.command import command

    file = folder / "in"
    file.write_bytes(CASES[name].make())
    arguments = [str(file), "-o", str(folder / "rows.parquet"), "--errors", str(folder / "errors"), "--errors-limit", "30"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        _run(command, arguments)
    return int(said.getvalue().partition(" rows ")[2].partition(",")[0] or 0)


def _run(command: Any, arguments: list[str]) -> None:
    try:
        command.main(arguments, standalone_mode=False)
    except SystemExit as ended:
        if ended.code not in {0, 1}:
            raise
    except BlobtideError as error:
        if "more than 30 MB of dead letters" not in str(error):
            raise


def read_as_blob(name: str) -> int | None:
    """Read the case as a closed blob, segment by segment; return the rows that came, None if parsing stops."""
    from services.parser.flows.kernel import parse
    from services.parser.letters import TooManyLetters
    from tests.blob_reading import Desk

    desk = Desk()
    desk.container.put(desk.name, CASES[name].make())
    desk.read(closed=True)
    rows = 0
    for segment in desk.segments:
        try:
            rows += parse([segment], most_letters=100_000).batch.num_rows
        except TooManyLetters:
            return None
    return rows


def main() -> None:
    """Read the case that the first argument names, in the folder of the second, and print the rows."""
    # Not the address space, of which Arrow and threads reserve much more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    name, folder = sys.argv[1:]
    click.echo(json.dumps([converted(name, Path(folder)), read_as_blob(name) if CASES[name].as_blob else None]))


if __name__ == "__main__":
    main()
