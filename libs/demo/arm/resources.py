"""The Azure resources of an estate: what its flow logs are about, as Azure Resource Manager shows it. Pure.

The addresses of its interfaces are those in its flows, and its rules are those that flows match. Groups of sixteen interfaces
share a place: a virtual network with one of everything else in it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

from libs.demo.inventory import Nic, make_nics
from libs.demo.rules import RULES, Acl
from libs.demo.spec import EstateSpec

Resource = dict[str, Any]
_RESOURCE_GROUP: Final = "rg-demo"
GROUPS: Final = "Microsoft.Network/networkSecurityGroups"
MACHINES: Final = "Microsoft.Compute/virtualMachines"
_INTERFACES: Final = "Microsoft.Network/networkInterfaces"
_NETWORKS: Final = "Microsoft.Network/virtualNetworks"
SUBNETS: Final = "Microsoft.Network/virtualNetworks/subnets"
_TEAMS: Final = ("shop", "search", "billing")
_USER_RULE: Final = "UserRule_"
_PUBLIC_EVERY: Final = 3  # one interface of so many has a public address
_READER: Final = "acdd72a7-3385-48ef-bd42-f606fba81ae7"  # the id of this role, everywhere in Azure


@dataclass(frozen=True, slots=True)
class _Place:
    """Where resources are: a virtual network, and everything around it."""

    number: int
    subscription: str
    location: str

    def id_of(self, kind: str, name: str) -> str:
        """Return the id of a resource, such as ``Microsoft.Network/networkInterfaces``."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{_RESOURCE_GROUP}/providers/{kind}/{name}"

    def resource(self, kind: str, name: str, properties: Resource, /, **more: Any) -> Resource:
        """Return a resource as Azure shows it."""
        what = {"id": self.id_of(kind, name), "name": name, "type": kind, "location": self.location}
        return {**what, "tags": self.tags, **more, "properties": {**properties, "provisioningState": "Succeeded"}}

    @property
    def tags(self) -> dict[str, str]:
        """The tags of what belongs to no interface."""
        return {"owner": _TEAMS[self.number % len(_TEAMS)], "environment": "demo"}

    def interface(self, nic: Nic) -> str:
        """Return the id of an interface."""
        return self.id_of(_INTERFACES, f"nic-{nic.number}")

    def configuration(self, nic: Nic, name: str = "ipv4") -> str:
        """Return the id of an address of an interface."""
        return f"{self.interface(nic)}/ipConfigurations/{name}"

    @property
    def network(self) -> str:
        """The id of the virtual network."""
        return self.id_of(_NETWORKS, f"vnet-{self.number}")

    @property
    def subnet(self) -> str:
        """The id of its subnet."""
        return f"{self.network}/subnets/apps"


class EstateInventory:
    """The resources of an estate at its beginning."""

    def __init__(self, spec: EstateSpec) -> None:
        self._nics = make_nics(spec)

    @cached_property
    def subscriptions(self) -> tuple[str, ...]:
        """The subscriptions in which resources are."""
        return tuple(dict.fromkeys(_place_of(nic).subscription for nic in self._nics))

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """All resources, those of a kind together."""
        places: dict[_Place, list[Nic]] = {}
        for nic in self._nics:
            places.setdefault(_place_of(nic), []).append(nic)
        found = [each for nic in self._nics for each in of_interface(nic)]
        found += [each for place, nics in places.items() for each in _of_place(place, nics)]
        return tuple(sorted(found, key=lambda one: str(one["type"])))

    @property
    def next_interface(self) -> Nic:
        """An interface like the first one, whose address is in no flow."""
        first = self._nics[0]
        number = len(self._nics)
        return Nic(number, first.rank, first.kind, f"{int(first.mac, 16) + number:012X}", first.stamp, first.site)


def _place_of(nic: Nic) -> _Place:
    subscription = nic.site.acls[Acl.NIC_GROUP].split("/")[2]
    return _Place(nic.site.number, subscription, nic.site.region.lower())


def of_interface(nic: Nic) -> Iterator[Resource]:
    """Yield an interface, its machine, and its public address if it has one."""
    place = _place_of(nic)
    public = place.id_of("Microsoft.Network/publicIPAddresses", f"pip-{nic.number}")
    has_public = nic.number % _PUBLIC_EVERY == 0
    machine = place.id_of(MACHINES, f"vm-{nic.number}")
    yield place.resource(
        _INTERFACES,
        f"nic-{nic.number}",
        {
            "macAddress": "-".join(nic.mac[at : at + 2] for at in range(0, len(nic.mac), 2)),
            "ipConfigurations": [
                _configuration(place, nic, nic.address4, {"publicIPAddress": {"id": public}} if has_public else {}),
                _configuration(place, nic, nic.address6, {}),
            ],
            "networkSecurityGroup": {"id": nic.site.acls[Acl.NIC_GROUP]},
            "virtualMachine": {"id": machine},
            "primary": True,
        },
    )
    yield _machine(place, nic)
    if has_public:
        address = {"ipAddress": f"203.0.113.{1 + nic.number // _PUBLIC_EVERY % 250}", "publicIPAllocationMethod": "Static"}
        yield place.resource("Microsoft.Network/publicIPAddresses", f"pip-{nic.number}", address, sku={"name": "Standard"})


def _configuration(place: _Place, nic: Nic, address: str, public: Resource) -> Resource:
    version = "IPv6" if ":" in address else "IPv4"
    where = {"privateIPAddress": address, "privateIPAddressVersion": version, "subnet": {"id": place.subnet}}
    name = version.lower()
    return {"id": place.configuration(nic, name), "name": name, "properties": {**where, **public}}


def _machine(place: _Place, nic: Nic) -> Resource:
    return place.resource(
        MACHINES,
        f"vm-{nic.number}",
        {
            "vmId": _guid(place, "vm", str(nic.number)),
            "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {"osDisk": {"osType": "Linux", "name": f"vm-{nic.number}-os"}},
            "networkProfile": {"networkInterfaces": [{"id": place.interface(nic)}]},
        },
        tags={"owner": _TEAMS[nic.number % len(_TEAMS)], "environment": "demo"},
    )


def _of_place(place: _Place, nics: Sequence[Nic]) -> Iterator[Resource]:
    yield _network(place, nics)
    yield from _groups(place, nics)
    yield from _entrances(place, nics)
    yield place.resource(
        "Microsoft.ContainerService/managedClusters",
        f"aks-{place.number}",
        {
            "kubernetesVersion": "1.33.2",
            "agentPoolProfiles": [{"name": "system", "count": 3, "vmSize": "Standard_D4s_v5", "vnetSubnetID": place.subnet}],
            "networkProfile": {"networkPlugin": "azure", "podCidr": "10.244.0.0/16", "serviceCidr": "10.0.0.0/16"},
        },
    )
    storage = {"primaryEndpoints": {"blob": f"https://stdemo{place.number}.blob.core.windows.net/"}}
    yield place.resource(
        "Microsoft.Storage/storageAccounts", f"stdemo{place.number}", storage, kind="StorageV2", sku={"name": "Standard_LRS"}
    )
    server = {"fullyQualifiedDomainName": f"sql-{place.number}.database.windows.net", "version": "12.0", "state": "Ready"}
    yield place.resource("Microsoft.Sql/servers", f"sql-{place.number}", server, kind="v12.0")
    database = place.resource("Microsoft.Sql/servers", f"sql-{place.number}/databases/orders", {"status": "Online"})
    yield {**database, "name": "orders", "type": "Microsoft.Sql/servers/databases"}
    vault = {"vaultUri": f"https://kv-demo-{place.number}.vault.azure.net/", "enableRbacAuthorization": True}
    yield place.resource("Microsoft.KeyVault/vaults", f"kv-demo-{place.number}", vault)
    yield _role_assignment(place)


def _network(place: _Place, nics: Sequence[Nic]) -> Resource:
    subnet = {
        "id": place.subnet,
        "name": "apps",
        "type": SUBNETS,
        "properties": {
            "addressPrefixes": ["10.64.0.0/15", "fd00:db8::/64"],
            "networkSecurityGroup": {"id": _subnet_group(place)},
            "ipConfigurations": [{"id": place.configuration(nic)} for nic in nics],
            "provisioningState": "Succeeded",
        },
    }
    space = {"addressPrefixes": ["10.64.0.0/15", "fd00:db8::/48"]}
    return place.resource(_NETWORKS, f"vnet-{place.number}", {"addressSpace": space, "subnets": [subnet]})


def _groups(place: _Place, nics: Sequence[Nic]) -> Iterator[Resource]:
    """Yield the security groups of interfaces, of the subnet, and one that nobody uses."""
    names = dict.fromkeys(nic.site.acls[Acl.NIC_GROUP].rpartition("/")[2] for nic in nics)
    for name in names:
        yield _group(place, name, _rules(Acl.NIC_GROUP), nics)
    yield _group(place, _subnet_group(place).rpartition("/")[2], _rules(Acl.SUBNET_GROUP), ())
    yield _group(place, f"nsg-legacy-{place.number}", (), ())


def _subnet_group(place: _Place) -> str:
    return place.id_of(GROUPS, f"nsg-subnet-{place.number}")


def _group(place: _Place, name: str, rules: Iterable[Resource], nics: Sequence[Nic]) -> Resource:
    used = [nic for nic in nics if nic.site.acls[Acl.NIC_GROUP].endswith(f"/{name}")]
    interfaces = [{"id": place.interface(nic)} for nic in used]
    return place.resource(GROUPS, name, {"securityRules": list(rules), "networkInterfaces": interfaces})


def _rules(acl: Acl) -> Iterator[Resource]:
    """Yield the rules of a security group that were made by users."""
    for priority, rule in enumerate(RULES, 1):
        if rule.acl is acl and rule.name.startswith(_USER_RULE):
            yield {
                "name": rule.name.removeprefix(_USER_RULE),
                "properties": {
                    "priority": 100 * priority,
                    "direction": "Inbound" if rule.inbound else "Outbound",
                    "access": "Allow" if rule.allowed else "Deny",
                    "protocol": "Tcp",
                    "sourceAddressPrefix": "Internet" if rule.inbound else "VirtualNetwork",
                    "sourcePortRange": "*",
                    "destinationAddressPrefix": "*",
                    "destinationPortRange": "443" if rule.allowed else "*",
                },
            }


def _entrances(place: _Place, nics: Sequence[Nic]) -> Iterator[Resource]:
    """Yield a load balancer with its public address, and a private endpoint."""
    address = {"ipAddress": f"203.0.113.{251 + place.number % 4}", "publicIPAllocationMethod": "Static"}
    public = place.resource("Microsoft.Network/publicIPAddresses", f"pip-lb-{place.number}", address, sku={"name": "Standard"})
    yield public
    behind = [{"id": place.configuration(nic)} for nic in nics]
    balancer = {
        "frontendIPConfigurations": [{"name": "front", "properties": {"publicIPAddress": {"id": public["id"]}}}],
        "backendAddressPools": [{"name": "machines", "properties": {"backendIPConfigurations": behind}}],
    }
    yield place.resource("Microsoft.Network/loadBalancers", f"lb-{place.number}", balancer, sku={"name": "Standard"})
    target = place.id_of("Microsoft.Storage/storageAccounts", f"stdemo{place.number}")
    connection = {"name": "storage", "properties": {"privateLinkServiceId": target, "groupIds": ["blob"]}}
    endpoint = {"subnet": {"id": place.subnet}, "privateLinkServiceConnections": [connection]}
    yield place.resource("Microsoft.Network/privateEndpoints", f"pe-storage-{place.number}", endpoint)


def _role_assignment(place: _Place) -> Resource:
    name, scope = _guid(place, "assignment"), f"/subscriptions/{place.subscription}"
    role = f"{scope}/providers/Microsoft.Authorization/roleDefinitions/{_READER}"
    return {
        "id": f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
        "name": name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {"roleDefinitionId": role, "principalId": _guid(place, "collector"), "scope": scope},
    }


def _guid(place: _Place, *what: str) -> str:
    text = "/".join((place.subscription, str(place.number), *what))
    return str(uuid.UUID(bytes=blake2b(text.encode(), digest_size=16).digest()))
