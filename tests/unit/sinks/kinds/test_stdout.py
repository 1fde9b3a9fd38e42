"""The stdout sink: its three forms, and an output that fails."""

from __future__ import annotations

import csv
import io
import os
from typing import Any

import pytest

from libs.common.errors import Retry
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.stdout.sink import LineFormat, StdoutSettings, StdoutSink
from tests.flows import Spot, identity, row, rows
from tests.flows import part as flow_part


class Pipe(io.RawIOBase):
    """An output that takes a few bytes at a time, and none when `error` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Take at most 1000 bytes."""
        if self.error is not None:
            raise self.error
        self.data += bytes(data[:1_000])
        return min(1_000, len(data))


def make(form: LineFormat) -> tuple[StdoutSink, Pipe]:
    """Open a sink on a pipe."""
    pipe = Pipe()
    sink = StdoutSink(StdoutSettings(format=form), FLOWS, pipe)
    sink.open()
    return sink, pipe


def test_text_is_aligned_and_harmless() -> None:
    """Arrows stand below each other over batches, and control characters of a log do not reach the terminal."""
    sink, pipe = make(LineFormat.TEXT)
    sink.write([flow_part(0, [row(Spot(0, 0, 2))])])
    sink.write([flow_part(0, [row(Spot(0, 0, 0), rule="\x1b[2Jx"), row(Spot(1, 0, 2))])])
    lines = pipe.data.decode().splitlines()
    assert lines[0].startswith("2026-05-01T12:00:00.002Z outbound allow continuing TCP 10.0.0.4:40002 -> 52.0.2.7:22")
    assert len({line.index("->") for line in lines[1:]}) == 1
    assert "\x1b" not in pipe.data.decode()


def test_csv_has_one_header() -> None:
    """The header stands once, before the first row."""
    sink, pipe = make(LineFormat.CSV)
    for _ in range(2):
        sink.write([flow_part(0, rows())])
    found = list(csv.DictReader(io.StringIO(pipe.data.decode(), newline="")))
    assert [(r["blob"], r["generation"], int(r["record_offset"]), int(r["tuple_index"])) for r in found] == [
        identity(r) for r in rows() * 2
    ]


def test_a_reader_that_goes_away_ends_the_process() -> None:
    """A closed pipe is not retried."""
    sink, pipe = make(LineFormat.JSON)
    pipe.error = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        sink.write([flow_part(0, rows())])


def test_a_failing_output_is_retried() -> None:
    """Any other failure is a Retry, and the header is still due if nothing was printed."""
    sink, pipe = make(LineFormat.CSV)
    pipe.error = OSError(28, "No space left on device")
    with pytest.raises(Retry, match="No space left"):
        sink.write([flow_part(0, rows())])
    pipe.error = None
    sink.write([flow_part(0, rows())])
    assert pipe.data.startswith(b"time,src_ip,")


def test_an_output_that_does_not_block_is_waited_for() -> None:
    """When a pipe in non-blocking mode is full, it is tried again when there is room or a second later, not all the time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    refusals: list[None] = []
    received = b""

    class Full(io.FileIO):
        def write(self, data: Any) -> Any:
            taken = super().write(data)
            if taken is None:
                refusals.append(None)
            return taken

    def read() -> None:
        nonlocal received
        received += os.read(reader, 1 << 20)
        waits.append(None)

    waits: list[None] = []
    with Full(writer, "wb") as out, os.fdopen(reader, "rb"):
        sink = StdoutSink(StdoutSettings(format=LineFormat.JSON), FLOWS, out)
        sink.while_waiting(read)
        sink.open()
        sink.write([flow_part(0, rows(records=20))])
        sink.close()
        read()
    assert len(received.splitlines()) == 240
    assert 0 < len(refusals) < len(waits)


@pytest.mark.parametrize("form", [LineFormat.JSON, LineFormat.CSV])
def test_a_large_part_is_printed_in_pieces_as_if_at_once(form: LineFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting a part to bound memory changes no byte, and no line is printed twice."""
    table = [row(Spot(record, 0, 2)) for record in range(7)]
    whole, at_once = make(form)
    whole.write([flow_part(0, table)])
    monkeypatch.setattr("services.sinks.kinds.stdout.sink._ROWS_AT_ONCE", 3)
    cut, in_pieces = make(form)
    cut.write([flow_part(0, table)])
    assert in_pieces.data == at_once.data
