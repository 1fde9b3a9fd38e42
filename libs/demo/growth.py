"""Turn pages into commits: place every record in its blob, start new blobs every hour, hold back late blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

import xxhash

from libs.common.messages.blobs import BlobId
from libs.demo.commits import Action, MinuteCommit, NewBlock
from libs.demo.draw import Sheet
from libs.demo.inventory import TICKS_PER_SECOND, Nic
from libs.demo.page import make_page
from libs.demo.peers import Addresses
from libs.demo.record_text import FRAMES, Writer, WrittenRecord
from libs.demo.spec import MINUTES_PER_HOUR, EstateSpec, Style
from libs.demo.truth import NO_ROWS, PlacedRecords, RowRange, truth_of

_WRITTEN_AFTER: Final = timedelta(seconds=31)  # after a record's time
_LATE: Final = timedelta(seconds=75)


@dataclass(slots=True)
class _OpenBlob:
    """How far the blob of an interface has grown."""

    id: BlobId
    hour: int  # since 1970
    end: int  # of the last data block
    data_ids: list[str] = field(default_factory=list)


class Growth:
    """The blobs of one pass over an estate's minutes."""

    def __init__(self, spec: EstateSpec, addresses: Addresses) -> None:
        self._spec = spec
        self._addresses = addresses
        self._frame = FRAMES[spec.style]
        self._head = NewBlock(_edge_id("A", spec.style), self._frame.head)
        self._tail = NewBlock(_edge_id("Z", spec.style), self._frame.tail)
        self._writer = Writer(spec.style)
        self._open: dict[int, _OpenBlob] = {}  # by number of the interface
        self._late: dict[int, MinuteCommit] = {}

    def minute(self, minute: int, sheets: Sequence[Sheet]) -> list[MinuteCommit]:
        """Return the commits of some interfaces for one wall-clock minute, in order of their due times."""
        return sorted((commit for sheet in sheets for commit in self._grow(minute, sheet)), key=lambda commit: commit.due)

    def kept_back(self) -> list[MinuteCommit]:
        """Return the commits of late blocks that are still held back."""
        return list(self._late.values())

    def _grow(self, minute: int, sheet: Sheet) -> Iterator[MinuteCommit]:
        page = make_page(self._spec.seed, sheet, minute, self._addresses)
        written = list(self._writer.records(page))
        for nic in sheet.nics:
            yield from self._begin(nic, minute)
        blobs = [str(self._open[nic.number].id) for nic in sheet.nics]
        blocks, offsets = [], []
        for nic, records in written:
            data, at = self._block(self._open[nic.number], records)
            blocks.append(data)
            offsets.extend(at)
        truth = truth_of(
            page, PlacedRecords([record for _, records in written for record in records], offsets, blobs), self._addresses
        )
        for (nic, records), data in zip(written, blocks, strict=True):
            yield from self._append(nic, minute, data, RowRange(truth, records[0].start, records[-1].stop))

    def _begin(self, nic: Nic, minute: int) -> Iterator[MinuteCommit]:
        """Create the blob of an interface if there is none for the hour."""
        hour = minute // MINUTES_PER_HOUR
        if nic.number in self._open and self._open[nic.number].hour == hour:
            return
        blob = BlobId(self._spec.account, nic.container, _blob_name(nic, hour))
        self._open[nic.number] = _OpenBlob(blob, hour, len(self._frame.head))
        head, tail, due = self._head, self._tail, _due(nic, minute)
        if nic.starts_with_head_only:
            yield MinuteCommit(nic.number, blob, Action.OPEN, due, (head,), (head.id,), NO_ROWS)
            yield MinuteCommit(nic.number, blob, Action.CREATE, due, (tail,), (head.id, tail.id), NO_ROWS)
        else:
            yield MinuteCommit(nic.number, blob, Action.CREATE, due, (head, tail), (head.id, tail.id), NO_ROWS)

    def _block(self, blob: _OpenBlob, records: Sequence[WrittenRecord]) -> tuple[NewBlock, list[int]]:
        """Add a data block to `blob`; return it and the offsets of its records in the blob."""
        separator = self._frame.separator
        before = separator if blob.data_ids else b""
        data = before + separator.join(record.data for record in records)
        sizes = (len(record.data) + len(separator) for record in records[:-1])
        offsets = list(accumulate(sizes, initial=blob.end + len(before)))
        block = NewBlock(_data_id(data, self._spec.style), data)
        blob.end += len(data)
        blob.data_ids.append(block.id)
        return block, offsets

    def _append(self, nic: Nic, minute: int, block: NewBlock, rows: RowRange) -> Iterator[MinuteCommit]:
        blob = self._open[nic.number]
        finished = minute % MINUTES_PER_HOUR == MINUTES_PER_HOUR - 1
        action = Action.FINISH if finished else Action.APPEND
        ids = (self._head.id, *blob.data_ids, self._tail.id)
        commit = MinuteCommit(nic.number, blob.id, action, _due(nic, minute), (block,), ids, rows)
        late = self._late.pop(nic.number, None)
        if finished and nic.writes_late:
            self._late[nic.number] = replace(commit, due=commit.due + _LATE)
        else:
            yield commit
        if late:
            yield late


def _due(nic: Nic, minute: int) -> datetime:
    stamped = datetime.fromtimestamp(minute * 60, UTC) + timedelta(microseconds=nic.stamp * 1_000_000 // TICKS_PER_SECOND)
    return stamped + _WRITTEN_AFTER


def _blob_name(nic: Nic, hour: int) -> str:
    when = datetime.fromtimestamp(hour * 3600, UTC)
    return f"{nic.site.folder}/{when:y=%Y/m=%m/d=%d/h=%H}/m=00/macAddress={nic.mac}/PT1H.json"


def _edge_id(letter: str, style: Style) -> str:
    return letter + "0" * 32 if style is Style.COMPACT else xxhash.xxh3_128_hexdigest(letter.encode())


def _data_id(data: bytes, style: Style) -> str:
    """Name a block by its content: the same block always gets the same name, and a different one never does."""
    digest = xxhash.xxh3_128_hexdigest(data)
    return f"D{digest.upper()}" if style is Style.COMPACT else digest
