"""The security rules that an estate's flows match, and how often each does.

In the order of a record. As in Azure's logs, the access list of the interface appears twice, with another one in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from libs.demo.spec import LogKind

PLATFORM_ACL: Final = "00000000-0000-0000-0000-000000000000"
UNSPECIFIED: Final = "unspecified"


class Acl(IntEnum):
    """Which access control list a rule belongs to."""

    NIC_GROUP = 0
    SUBNET_GROUP = 1
    PLATFORM = 2
    UNSPECIFIED = 3


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """One rule. `share` is its weight among flows; a stateless rule may count no traffic (NSG v2, inbound TCP)."""

    name: str
    acl: Acl
    inbound: bool
    allowed: bool
    share: float
    stateless: bool = False


RULES: Final = (
    SecurityRule("DefaultRule_AllowInternetOutBound", Acl.NIC_GROUP, inbound=False, allowed=True, share=0.34),
    SecurityRule("DefaultRule_AllowVnetInBound", Acl.NIC_GROUP, inbound=True, allowed=True, share=0.14),
    SecurityRule("UserRule_allow-https-inbound", Acl.NIC_GROUP, inbound=True, allowed=True, share=0.18, stateless=True),
    SecurityRule("DefaultRule_DenyAllInBound", Acl.NIC_GROUP, inbound=True, allowed=False, share=0.14),
    SecurityRule("PlatformRule", Acl.PLATFORM, inbound=False, allowed=True, share=0.04),
    SecurityRule(
        "UserRule_SecurityCenter-JITRule_1517482933_5D1DC7F2E0A94A4D8C0C3D9E0A1B2C3D",
        Acl.NIC_GROUP,
        inbound=True,
        allowed=False,
        share=0.03,
    ),
    SecurityRule("DefaultRule_AllowVnetOutBound", Acl.SUBNET_GROUP, inbound=False, allowed=True, share=0.08),
    SecurityRule(
        "UserRule_AzureVirtualNetworkManager_Deny-legacy_6f0b35a6-6a3e-4c6f-9c64-0d4b7c7f6a11",
        Acl.SUBNET_GROUP,
        inbound=False,
        allowed=False,
        share=0.02,
    ),
    SecurityRule(UNSPECIFIED, Acl.UNSPECIFIED, inbound=False, allowed=False, share=0.03),
)


def rule_shares(kind: LogKind) -> tuple[float, ...]:
    """Return the weight of every rule in logs of `kind`; network security groups know only their own rules."""
    own = (Acl.NIC_GROUP, Acl.SUBNET_GROUP)
    return tuple(rule.share if kind is LogKind.VNET or rule.acl in own else 0.0 for rule in RULES)
