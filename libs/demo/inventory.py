"""The network interfaces of an estate and related names: resources, paths, identifiers. All are derived from the seed."""

from __future__ import annotations

import hashlib
import ipaddress
import uuid
from dataclasses import dataclass
from typing import Final

import numpy as np

from libs.demo.rules import PLATFORM_ACL, UNSPECIFIED
from libs.demo.spec import EstateSpec, LogKind

TICKS_PER_SECOND: Final = 10_000_000  # record times have a resolution of 100 ns
_NICS_PER_SITE: Final = 16
_REGIONS: Final = ("EASTUS2", "WESTEUROPE")
_MAC_PREFIX: Final = "000D3A"
_CONTAINERS: Final = {
    LogKind.VNET: "insights-logs-flowlogflowevent",
    LogKind.NSG2: "insights-logs-networksecuritygroupflowevent",
    LogKind.NSG1: "insights-logs-networksecuritygroupflowevent",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the interfaces of one flow log have in common. Fields that a kind of log lacks are None."""

    number: int
    region: str
    folder: str
    resource_id: str
    target_id: str | None
    system_id: str | None
    flow_log_id: str | None
    acls: tuple[str, ...]  # by `rules.Acl`


@dataclass(frozen=True, slots=True)
class Nic:
    """One network interface. `rank` counts within its kind and determines its peculiarities."""

    number: int
    rank: int
    kind: LogKind
    mac: str
    stamp: int  # ticks into the minute of the timestamps of its records
    site: Site

    @property
    def container(self) -> str:
        """The container of its blobs."""
        return container_of(self.kind)

    @property
    def target_id(self) -> str | None:
        """The target resource: network, subnet or this interface."""
        target = self.site.target_id
        return f"{target}{self.number}" if target and target.endswith("nic-") else target

    @property
    def address4(self) -> str:
        """Its IPv4 address."""
        return f"10.{64 + (self.number >> 16)}.{self.number >> 8 & 255}.{self.number & 255}"

    @property
    def address6(self) -> str:
        """Its IPv6 address, in the form of RFC 5952."""
        return str(ipaddress.IPv6Address((0xFD000DB8 << 96) + 0x10000 + self.number))

    @property
    def key_order(self) -> int:
        """Which of the four orders of JSON members its records use."""
        return self.rank % 4

    @property
    def names_unused_rule(self) -> bool:
        """Whether its records name a rule or list that no flow matched."""
        return self.rank % 5 == 1

    @property
    def hides_mac(self) -> bool:
        """Whether its version 1 records have the MAC address only next to the tuples, like older ones."""
        return self.rank % 2 == 1

    @property
    def lacks_flow_timeout(self) -> bool:
        """Whether stateless rules count no traffic."""
        return self.rank % 2 == 0

    @property
    def starts_with_head_only(self) -> bool:
        """Whether its blobs are first committed with nothing but the head."""
        return self.rank % 4 == 2  # noqa: PLR2004 - a residue

    @property
    def writes_late(self) -> bool:
        """Whether its last block of an hour is written after the next hour's blob has begun."""
        return self.rank % 6 == 3  # noqa: PLR2004 - a residue


def container_of(kind: LogKind) -> str:
    """Return the container that Azure uses for logs of `kind`."""
    return _CONTAINERS[kind]


def make_nics(spec: EstateSpec) -> tuple[Nic, ...]:
    """Return the interfaces of `spec` in the order of their records' timestamps within a minute."""
    rng = np.random.default_rng([spec.seed, 0])
    stamps = np.sort(rng.integers(TICKS_PER_SECOND, 60 * TICKS_PER_SECOND, spec.nics))
    first_mac = int(rng.integers(0, 1 << 23))
    sites: dict[tuple[LogKind, int], Site] = {}
    nics = []
    for number, stamp in enumerate(stamps.tolist()):
        rank, turn = divmod(number, len(spec.kinds))
        kind = spec.kinds[turn]
        place = kind, rank // _NICS_PER_SITE
        if place not in sites:
            sites[place] = _site(spec.seed, *place)
        mac = f"{_MAC_PREFIX}{first_mac + number:06X}"
        nics.append(Nic(number, rank, kind, mac, _rounded(stamp, rank), sites[place]))
    return tuple(nics)


def _rounded(stamp: int, rank: int) -> int:
    """Give some interfaces timestamps with fewer than seven fractional digits."""
    return stamp - stamp % (TICKS_PER_SECOND // 10) if rank % 7 == 5 else stamp  # noqa: PLR2004 - a residue


def _site(seed: int, kind: LogKind, number: int) -> Site:
    region = _REGIONS[number % len(_REGIONS)]
    subscription = _guid(seed, "subscription", region)
    groups = tuple(
        f"/subscriptions/{subscription}/resourceGroups/rg-demo/providers/Microsoft.Network/networkSecurityGroups/{name}-{number}"
        for name in (f"nsg-{kind.value}", "nsg-subnet")
    )
    subnet_acl = groups[1] if number % 2 == 0 else _guid(seed, "acl", str(number))
    acls = (groups[0], subnet_acl, PLATFORM_ACL, UNSPECIFIED)
    if kind is LogKind.VNET:
        return _vnet_site(_Place(seed, number, region, subscription), acls)
    folder = f"resourceId={groups[0].upper()}"
    resource = groups[0].upper() if number % 2 == 0 else groups[0]
    return Site(number, region, folder, resource, None, _guid(seed, "system", region), None, acls)


@dataclass(frozen=True, slots=True)
class _Place:
    seed: int
    number: int
    region: str
    subscription: str


def _vnet_site(place: _Place, acls: tuple[str, ...]) -> Site:
    log = f"FLOWLOG-{place.number:03}"
    watcher = f"NETWORKWATCHER_{place.region}"
    providers = "PROVIDERS/MICROSOFT.NETWORK"
    network = f"/subscriptions/{place.subscription}/resourceGroups/rg-demo/providers/Microsoft.Network"
    targets = (
        f"{network}/virtualNetworks/vnet-{place.number}",
        f"{network}/virtualNetworks/vnet-{place.number}/subnets/apps",
        f"{network}/networkInterfaces/nic-",
    )
    return Site(
        number=place.number,
        region=place.region,
        folder=f"flowLogResourceID=/{place.subscription.upper()}_NETWORKWATCHERRG/{watcher}_{log}",
        resource_id=f"/SUBSCRIPTIONS/{place.subscription}/RESOURCEGROUPS/NETWORKWATCHERRG/{providers}"
        f"/NETWORKWATCHERS/{watcher}/FLOWLOGS/{log}",
        target_id=targets[place.number % len(targets)],
        system_id=None,
        flow_log_id=_guid(place.seed, "flow log", str(place.number)),
        acls=acls,
    )


def _guid(seed: int, *what: str) -> str:
    return str(uuid.UUID(bytes=hashlib.blake2b("/".join((str(seed), *what)).encode(), digest_size=16).digest()))
