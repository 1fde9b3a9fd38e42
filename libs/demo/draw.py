"""Draw the flow tuples of one minute for interfaces of one kind, as columns of numbers.

A conversation becomes one, two or three tuples: begin and end, a denied attempt (sometimes twice, identically), an end logged
before its begin, begin-end-begin within one instant, an end whose beginning was hours ago. Some conversations last for a
quarter of an hour: they are drawn again from the same numbers when they continue and when they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import numpy as np

from libs.demo.arrays import Flags, Floats, Ints
from libs.demo.inventory import Nic
from libs.demo.peers import PEERS4, PEERS6, own_address
from libs.demo.rules import RULES, rule_shares
from libs.demo.spec import LogKind


class FlowState(IntEnum):
    """The state of a flow according to a tuple."""

    BEGIN = 0
    CONTINUING = 1
    END = 2
    DENY = 3


# The last one is undocumented: readers must pass it through.
ENCRYPTIONS: Final = (
    "NX",
    "X",
    "NX_HW_NOT_SUPPORTED",
    "NX_SW_NOT_READY",
    "NX_NOT_ACCEPTED",
    "NX_NOT_SUPPORTED",
    "NX_LOCAL_DST",
    "NX_FALLBACK",
    "NX_PEER_LEAVING",
)
_ENCRYPTION_SHARES: Final = (0.80, 0.10, 0.02, 0.01, 0.01, 0.01, 0.02, 0.02, 0.01)

# Port, protocol (IANA), weight; security groups log TCP and UDP only.
_SERVICES: Final = (
    (443, 6, 0.50),
    (80, 6, 0.12),
    (53, 17, 0.12),
    (22, 6, 0.05),
    (1433, 6, 0.05),
    (3389, 6, 0.05),
    (123, 17, 0.05),
    (8080, 6, 0.04),
    (0, 50, 0.01),
    (0, 47, 0.01),
)
_TCP: Final = 6
_UDP: Final = 17

_PATTERNS: Final = (
    (FlowState.BEGIN, FlowState.END),
    (FlowState.BEGIN,),
    (FlowState.END,),
    (FlowState.END, FlowState.BEGIN),
    (FlowState.BEGIN, FlowState.END, FlowState.BEGIN),
    (FlowState.END, FlowState.END),
    (FlowState.CONTINUING,),
    (FlowState.DENY,),
    (FlowState.DENY, FlowState.DENY),
)
_BEGIN_ONLY, _END_ONLY, _CONTINUING, _DENY = 1, 2, 6, 7
_ALLOWED_SHARES: Final = (0.68, 0.10, 0.08, 0.05, 0.04, 0.03, 0.02, 0.0, 0.0)
_DENIED_SHARES: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.90, 0.10)
_LENGTHS: Final = np.array([len(pattern) for pattern in _PATTERNS])
_FIRST_STEPS: Final = np.cumsum(_LENGTHS) - _LENGTHS
_STEPS: Final = np.array([state for pattern in _PATTERNS for state in pattern])

# Minutes since a long conversation began, and what it logs then.
_LONG_LIFE: Final = ((0, _BEGIN_ONLY), (5, _CONTINUING), (10, _CONTINUING), (14, _END_ONLY))
_LONG_SHARE: Final = 0.1
_MOST_SILENT: Final = 1 / 40  # share of an interface's minutes without any flow; less for busy interfaces

_LEAST_LEAD_MS: Final = 4_000
_MOST_LEAD_MS: Final = 63_000


@dataclass(frozen=True, slots=True)
class Sheet:
    """Interfaces of one kind whose tuples are drawn together, and how busy each one is."""

    nics: tuple[Nic, ...]
    kind: LogKind
    tuples_per_minute: float

    @property
    def numbers(self) -> Ints:
        """The interfaces' numbers in the estate."""
        return np.array([nic.number for nic in self.nics], np.int64)


@dataclass(frozen=True, slots=True)
class Tuples:
    """Columns of flow tuples. `nic` is the index in the sheet; times are in ms before the record's time."""

    nic: Ints
    rule: Ints
    state: Ints
    lead: Ints
    source: Ints  # address number
    destination: Ints
    source_port: Ints
    destination_port: Ints
    protocol: Ints
    encryption: Ints
    packets_sent: Ints
    bytes_sent: Ints
    packets_received: Ints
    bytes_received: Ints
    uncounted: Flags  # prints no counters where the format leaves that open

    def take(self, order: Ints) -> Tuples:
        """Return the tuples with the numbers in `order`."""
        return Tuples(*(getattr(self, column.name)[order] for column in fields(self)))

    def __len__(self) -> int:
        return len(self.nic)


@dataclass(frozen=True, slots=True)
class _Conversations:
    nic: Ints
    rule: Ints
    pattern: Ints
    peer: Ints
    is6: Flags
    client_port: Ints
    service: Ints
    encryption: Ints
    lead: Ints
    duration: Ints
    counters: Ints  # four rows: packets and bytes sent, packets and bytes received
    uncounted: Flags


def draw_minute(seed: int, sheet: Sheet, minute: int) -> Tuples:
    """Return the tuples that `sheet` logs in the wall-clock minute `minute`, with interfaces in no particular order."""
    rng = _rng(seed, sheet, minute, 0)
    size = len(sheet.nics)
    per_conversation = _mean_length(sheet.kind)
    silent_share = min(_MOST_SILENT, 1 / sheet.tuples_per_minute)
    rate = sheet.tuples_per_minute / (1 - silent_share)
    wanted = rate * (1 - _LONG_SHARE) / per_conversation
    short = _draw(rng, sheet, _counts(rng, wanted * rng.uniform(0.85, 1.15, size)))
    parts = [_expand(sheet, short)]
    for age, pattern in _LONG_LIFE:
        past = _rng(seed, sheet, minute - age, 1)
        born = _counts(past, np.full(size, rate * _LONG_SHARE / len(_LONG_LIFE)))
        parts.append(_expand(sheet, _draw(past, sheet, born, pattern)))
    together = Tuples(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Tuples)))
    silent = rng.random(size) < silent_share
    return together.take(np.flatnonzero(~silent[together.nic]))


def _rng(seed: int, sheet: Sheet, minute: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, minute, sheet.nics[0].number, purpose])


def _counts(rng: np.random.Generator, expected: Floats) -> Ints:
    """Round up or down at random, so that the mean is exact."""
    return (expected + rng.random(len(expected))).astype(np.int64)


def _mean_length(kind: LogKind) -> float:
    shares = np.array(rule_shares(kind))
    allowed = shares @ np.array([rule.allowed for rule in RULES]) / shares.sum()
    return float(allowed * (_LENGTHS @ _ALLOWED_SHARES) + (1 - allowed) * (_LENGTHS @ _DENIED_SHARES))


def _choose(rng: np.random.Generator, shares: Sequence[float] | Floats, size: int) -> Ints:
    edges = np.cumsum(shares)
    return np.searchsorted(edges[:-1] / edges[-1], rng.random(size), side="right").astype(np.int64)


_ALLOWED: Final = np.array([rule.allowed for rule in RULES])
_INBOUND: Final = np.array([rule.inbound for rule in RULES])
_STATELESS: Final = np.array([rule.stateless for rule in RULES])
_SERVICE_PORT: Final = np.array([port for port, _, _ in _SERVICES])
_SERVICE_PROTOCOL: Final = np.array([protocol for _, protocol, _ in _SERVICES])


def _draw(rng: np.random.Generator, sheet: Sheet, counts: Ints, pattern: int | None = None) -> _Conversations:
    """Draw `counts` conversations for each interface; if `pattern` is given, only under rules that allow."""
    nic = np.repeat(np.arange(len(sheet.nics)), counts)
    size = len(nic)
    shares = np.array(rule_shares(sheet.kind))
    rule = _choose(rng, shares if pattern is None else shares * _ALLOWED, size)
    is6 = rng.random(size) < 0.06  # noqa: PLR2004 - a weight
    packets = rng.geometric(0.12, (2, size))
    sizes = rng.integers(40, 1500, (2, size))
    packets[:, rng.random(size) < 0.04] = 0  # noqa: PLR2004 - a weight
    services = [share if sheet.kind is LogKind.VNET or protocol in {_TCP, _UDP} else 0.0 for _, protocol, share in _SERVICES]
    return _Conversations(
        nic=nic,
        rule=rule,
        pattern=_patterns(rng, rule) if pattern is None else np.full(size, pattern),
        peer=np.where(is6, PEERS4 + rng.integers(0, PEERS6, size), rng.integers(0, PEERS4, size)),
        is6=is6,
        client_port=rng.integers(1024, 65536, size),
        service=_choose(rng, services, size),
        encryption=_choose(rng, _ENCRYPTION_SHARES, size),
        lead=rng.integers(_LEAST_LEAD_MS, _MOST_LEAD_MS, size),
        duration=rng.exponential(1500, size).astype(np.int64),
        counters=np.stack((packets[0], packets[0] * sizes[0], packets[1], packets[1] * sizes[1])),
        uncounted=rng.random(size) < 0.1,  # noqa: PLR2004 - a weight
    )


def _patterns(rng: np.random.Generator, rule: Ints) -> Ints:
    size = len(rule)
    return np.where(_ALLOWED[rule], _choose(rng, _ALLOWED_SHARES, size), _choose(rng, _DENIED_SHARES, size))


def _expand(sheet: Sheet, drawn: _Conversations) -> Tuples:
    lengths = _LENGTHS[drawn.pattern]
    of = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    state = _STEPS[_FIRST_STEPS[drawn.pattern[of]] + step]
    rule, nic, service = drawn.rule[of], drawn.nic[of], drawn.service[of]
    inbound, protocol = _INBOUND[rule], _SERVICE_PROTOCOL[service]
    own, peer = own_address(sheet.numbers[nic], drawn.is6[of]), drawn.peer[of]
    has_ports = (protocol == _TCP) | (protocol == _UDP)
    later = (drawn.pattern[of] == 0) & (step == 1)
    counters = drawn.counters[:, of] * ((state == FlowState.CONTINUING) | (state == FlowState.END))
    no_timeout = np.array([nic.lacks_flow_timeout for nic in sheet.nics])
    return Tuples(
        nic=nic,
        rule=rule,
        state=state,
        lead=np.maximum(drawn.lead[of] - later * drawn.duration[of], _LEAST_LEAD_MS - 500),
        source=np.where(inbound, peer, own),
        destination=np.where(inbound, own, peer),
        source_port=drawn.client_port[of] * has_ports,
        destination_port=_SERVICE_PORT[service],
        protocol=protocol,
        encryption=drawn.encryption[of],
        packets_sent=counters[0],
        bytes_sent=counters[1],
        packets_received=counters[2],
        bytes_received=counters[3],
        uncounted=_uncounted(sheet.kind, state, drawn.uncounted[of], no_timeout[nic] & _STATELESS[rule] & (protocol == _TCP)),
    )


def _uncounted(kind: LogKind, state: Ints, blank: Flags, stateless: Flags) -> Flags:
    """Return which tuples print empty counters: by state in version 2, sometimes in version 4, all in version 1."""
    no_traffic_yet: Flags = (state == FlowState.BEGIN) | (state == FlowState.DENY)
    match kind:
        case LogKind.VNET:
            return no_traffic_yet & blank
        case LogKind.NSG2:
            return no_traffic_yet | stateless
        case LogKind.NSG1:
            return np.ones(len(state), np.bool_)
