"""Write the records of a page as JSON text, in the four orders of members that readers must handle.

Like Azure, this splits records of security groups that would grow beyond 32,270 bytes; the parts have the same time. Records of
virtual networks are not split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

import numpy as np

from libs.demo.inventory import TICKS_PER_SECOND, Nic
from libs.demo.page import SEPARATOR, LogPage, Run, Text
from libs.demo.rules import RULES, UNSPECIFIED
from libs.demo.spec import LogKind, Style

NSG_RECORD_LIMIT: Final = 32_270
_TIME_MARK: Final = "\x01"
_FLOWS_MARK: Final = "\x02"
_UNUSED_RULE: Final = "UserRule_never-matched"
# The first of two records in a minute has a timestamp half a second earlier.
_EARLIER: Final = TICKS_PER_SECOND // 2
VERSIONS: Final = {LogKind.VNET: 4, LogKind.NSG2: 2, LogKind.NSG1: 1}


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """One record: its text, the page's tuples ``[start, stop)`` in it, and its time in ticks since 1970."""

    data: bytes
    start: int
    stop: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The text around and between the records of a blob."""

    head: bytes
    separator: bytes
    tail: bytes


FRAMES: Final = {
    Style.COMPACT: Frame(b'{"records":[', b",", b"]}"),
    Style.PRETTY: Frame(b'{ \n    "records": [ \n', b",\n", b"\n    ]\n}\n"),
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The text of an interface's record around its time and its flows, which may come in either order."""

    parts: tuple[bytes, bytes, bytes]
    time_first: bool

    def fill(self, time: bytes, flows: bytes) -> bytes:
        """Return the record with `time` and `flows` filled in."""
        first, second = (time, flows) if self.time_first else (flows, time)
        return b"".join((self.parts[0], first, self.parts[1], second, self.parts[2]))

    @property
    def size(self) -> int:
        """Bytes of the envelope itself."""
        return sum(map(len, self.parts))


def make_envelope(nic: Nic, kind: LogKind) -> Envelope:
    """Return the envelope of an interface while it logs as `kind`."""
    site, version = nic.site, VERSIONS[kind]
    members: dict[str, str | int | None]
    if kind is LogKind.VNET:
        members = {
            "time": _TIME_MARK,
            "flowLogVersion": version,
            "flowLogGUID": site.flow_log_id,
            "macAddress": nic.mac,
            "category": "FlowLogFlowEvent",
            "flowLogResourceID": site.resource_id,
            "targetResourceID": nic.target_id,
            "operationName": "FlowLogFlowEvent",
        }
        flows = ("flowRecords", f'{{"flows":[{_FLOWS_MARK}]}}')
    else:
        mac = {} if kind is LogKind.NSG1 and nic.hides_mac else {"macAddress": nic.mac}
        members = {
            "time": _TIME_MARK,
            "systemId": site.system_id,
            **mac,
            "category": "NetworkSecurityGroupFlowEvent",
            "resourceId": site.resource_id,
            "operationName": "NetworkSecurityGroupFlowEvents",
        }
        flows = ("properties", _object({"Version": str(version), "flows": f"[{_FLOWS_MARK}]"}, nic.key_order))
    text = _object({name: _value(value) for name, value in members.items()} | dict([flows]), nic.key_order)
    return _split(text)


def _value(value: str | int | None) -> str:
    return f'"{_TIME_MARK}"' if value == _TIME_MARK else json.dumps(value)


def _split(text: str) -> Envelope:
    time_first = text.index(_TIME_MARK) < text.index(_FLOWS_MARK)
    marks = (_TIME_MARK, _FLOWS_MARK) if time_first else (_FLOWS_MARK, _TIME_MARK)
    before, _, rest = text.partition(marks[0])
    between, _, after = rest.partition(marks[1])
    return Envelope((before.encode(), between.encode(), after.encode()), time_first)


def _object(members: dict[str, str], order: int) -> str:
    """Write an object from values that are already JSON text, with its members in one of four orders."""
    names = list(members)
    match order:
        case 1:
            names = names[len(names) // 2 :] + names[: len(names) // 2]
        case 2:
            names.reverse()
        case 3:
            names = [names[-1], *names[:-1]]
    return "{" + ",".join(f'"{name}":{members[name]}' for name in names) + "}"


class Writer:
    """Writes the records of pages; caches envelopes."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._envelopes: dict[tuple[int, LogKind], Envelope] = {}

    def records(self, page: LogPage) -> Iterator[tuple[Nic, list[WrittenRecord]]]:
        """Yield every interface of the page with its records (at least one), in document order."""
        runs = {nic: list(of) for nic, of in groupby(page.runs, key=lambda run: run.nic)}
        at = 0
        for place, nic in enumerate(page.sheet.nics):
            records = list(self._of_nic(page, nic, runs.get(place, []), at))
            at = records[-1].stop
            yield nic, records

    def _of_nic(self, page: LogPage, nic: Nic, runs: list[Run], at: int) -> Iterator[WrittenRecord]:
        """Yield the records of an interface whose tuples begin at `at`."""
        kind = page.sheet.kind
        envelope = self._envelope(nic, kind)
        ticks = page.minute * 60 * TICKS_PER_SECOND + nic.stamp
        for number, (chunk, last) in enumerate(_mark_last(_chunks(page, nic, envelope, runs))):
            stamp = ticks - _EARLIER if kind is LogKind.VNET and number == 0 and not last else ticks
            flows = _vnet_flows(nic, chunk, page.text) if kind is LogKind.VNET else _nsg_flows(nic, chunk, page.text)
            stop = chunk[-1].stop if chunk else at
            yield WrittenRecord(self._styled(envelope.fill(time_text(stamp).encode(), flows)), at, stop, stamp)
            at = stop

    def _envelope(self, nic: Nic, kind: LogKind) -> Envelope:
        key = nic.number, kind
        if key not in self._envelopes:
            self._envelopes[key] = make_envelope(nic, kind)
        return self._envelopes[key]

    def _styled(self, record: bytes) -> bytes:
        if self._style is Style.COMPACT:
            return record
        return json.dumps(json.loads(record), indent=4).encode()


def time_text(ticks: int) -> str:
    """Return a record's time with as many fractional digits as it needs, at most seven."""
    seconds, fraction = divmod(ticks, TICKS_PER_SECOND)
    digits = f"{fraction:07}".rstrip("0")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{digits}Z"


def _mark_last(chunks: list[list[Run]]) -> Iterator[tuple[list[Run], bool]]:
    return ((chunk, number == len(chunks)) for number, chunk in enumerate(chunks, 1))


def _chunks(page: LogPage, nic: Nic, envelope: Envelope, runs: list[Run]) -> list[list[Run]]:
    """Divide the runs of an interface into records; without runs, there is one record without flows."""
    if page.sheet.kind is LogKind.VNET:
        return [list(of) for _, of in groupby(runs, key=lambda run: run.part)] or [[]]
    room = NSG_RECORD_LIMIT - envelope.size - len(_unused(nic, LogKind.NSG2)) - len("2026-05-01T12:00:00.0000000Z,")
    return _cut(nic, runs, page.text, room)


def _cut(nic: Nic, runs: Sequence[Run], text: Text, room: int) -> list[list[Run]]:
    """Fill records, which have room for `room` bytes of flows, with as many tuples as fit."""
    chunks: list[list[Run]] = [[]]
    left = room
    for run in runs:
        around = len(_nsg_rule(nic, run.rule, b"")) + 1
        start = run.start
        while start < run.stop:
            limit = text.ends[start] + left - around + len(SEPARATOR)
            stop = min(run.stop, int(np.searchsorted(text.ends, limit, side="right")) - 1)
            if stop > start:
                chunks[-1].append(Run(run.nic, run.part, run.rule, start, stop))
                left -= around + len(text.tuples(start, stop))
                start = stop
            if start < run.stop:
                chunks.append([])
                left = room
    return chunks


def _nsg_flows(nic: Nic, runs: Sequence[Run], text: Text) -> bytes:
    rules = [_nsg_rule(nic, run.rule, text.tuples(run.start, run.stop)) for run in runs]
    return b",".join([*rules, *_unused_list(nic, LogKind.NSG2)])


def _nsg_rule(nic: Nic, rule: int, tuples: bytes) -> bytes:
    name, mac = RULES[rule].name.encode(), nic.mac.encode()
    if nic.key_order == 2:  # noqa: PLR2004 - one of the four orders
        return b'{"flows":[{"flowTuples":["%b"],"mac":"%b"}],"rule":"%b"}' % (tuples, mac, name)
    return b'{"rule":"%b","flows":[{"mac":"%b","flowTuples":["%b"]}]}' % (name, mac, tuples)


def _vnet_flows(nic: Nic, runs: Sequence[Run], text: Text) -> bytes:
    lists = []
    for acl, of in groupby(runs, key=lambda run: RULES[run.rule].acl):
        groups = b",".join(_vnet_rule(nic, run.rule, text.tuples(run.start, run.stop)) for run in of)
        lists.append(_vnet_acl(nic, nic.site.acls[acl], groups))
    return b",".join([*lists, *_unused_list(nic, LogKind.VNET)])


def _vnet_rule(nic: Nic, rule: int, tuples: bytes) -> bytes:
    name = RULES[rule].name.encode()
    if nic.key_order == 2:  # noqa: PLR2004 - one of the four orders
        return b'{"flowTuples":["%b"],"rule":"%b"}' % (tuples, name)
    return b'{"rule":"%b","flowTuples":["%b"]}' % (name, tuples)


def _vnet_acl(nic: Nic, acl: str, groups: bytes) -> bytes:
    if nic.key_order == 2:  # noqa: PLR2004 - one of the four orders
        return b'{"flowGroups":[%b],"aclID":"%b"}' % (groups, acl.encode())
    return b'{"aclID":"%b","flowGroups":[%b]}' % (acl.encode(), groups)


def _unused(nic: Nic, kind: LogKind) -> bytes:
    """Return what an interface logs for a rule or list that no flow matched; empty for most interfaces."""
    if not nic.names_unused_rule:
        return b""
    if kind is LogKind.VNET:
        return _vnet_acl(nic, UNSPECIFIED, b"")
    return b'{"rule":"%b","flows":[]}' % _UNUSED_RULE.encode()


def _unused_list(nic: Nic, kind: LogKind) -> tuple[bytes, ...]:
    unused = _unused(nic, kind)
    return (unused,) if unused else ()
