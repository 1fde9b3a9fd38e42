"""An estate of network interfaces whose flow logs grow minute by minute, as Azure commits them. Pure: no I/O, no clock.

A spec always gives the same bytes: the content of a minute depends on the spec and the minute's number, not on when the estate
began. A blob covers an hour of *record* time: it is created with head and tail (for some interfaces, first with only the head),
gets one data block per minute before the tail, and ends with the last block of its hour. That one is written after the hour is
over, for some interfaces even after the next hour's blob has begun.

::

    logs = collect(Estate(EstateSpec(nics=20, minutes=180)).commits())
    logs.blobs[BlobId(...)]   # final bytes
    logs.truth                # every tuple with its position, as a table
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from libs.demo.commits import MinuteCommit
from libs.demo.draw import Sheet
from libs.demo.growth import Growth
from libs.demo.inventory import Nic, make_nics
from libs.demo.peers import make_addresses
from libs.demo.spec import EstateSpec, LogKind

_TUPLES_AT_ONCE: Final = 250_000  # bounds memory


class Estate:
    """The flow logs described by a spec."""

    def __init__(self, spec: EstateSpec) -> None:
        self.spec = spec
        self._nics = make_nics(spec)
        self._addresses = make_addresses(spec.seed, self._nics)

    def commits(self) -> Iterator[MinuteCommit]:
        """Yield all commits minute by minute, roughly in order of their due times, and per blob in order of its growth.

        Endless if the spec is. Every call starts from the beginning.
        """
        growth = Growth(self.spec, self._addresses)
        racks = self._racks()
        for index in count() if self.spec.minutes is None else range(self.spec.minutes):
            for rack in racks:
                yield from growth.minute(self.spec.first_minute + index, [self._as_of(index, sheet) for sheet in rack])
        yield from growth.kept_back()

    def _racks(self) -> list[list[Sheet]]:
        """Divide the interfaces into groups that are generated together, each with one sheet per kind."""
        size = max(1, int(_TUPLES_AT_ONCE / self.spec.tuples_per_minute))
        racks = [self._nics[at : at + size] for at in range(0, len(self._nics), size)]
        kinds = dict.fromkeys(self.spec.kinds)
        return [[sheet for kind in kinds if (sheet := self._sheet(rack, kind)).nics] for rack in racks]

    def _sheet(self, rack: Sequence[Nic], kind: LogKind) -> Sheet:
        return Sheet(tuple(nic for nic in rack if nic.kind is kind), kind, self.spec.tuples_per_minute)

    def _as_of(self, index: int, sheet: Sheet) -> Sheet:
        """Return the sheet with its kind as of `index` minutes after the start."""
        upgraded = self.spec.upgrade_after is not None and index >= self.spec.upgrade_after
        return replace(sheet, kind=LogKind.NSG2) if upgraded and sheet.kind is LogKind.NSG1 else sheet
