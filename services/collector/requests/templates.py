"""Calls that ship with blobtide: what estates are usually asked for. A template is an `ApiRequest` without its parameters.

The versions of the APIs are those of Microsoft's reference of each resource provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from libs.common.http.method import Method
from libs.common.settings.collector import Priority
from libs.common.suggestions import did_you_mean
from services.collector.requests.placeholders import placeholders
from services.collector.requests.schema import MOST_CALLS, ApiRequest, CollectionRequest, RequestRefused

SUBSCRIPTION: Final = "subscriptionId"
_OF_SUBSCRIPTION: Final = f"/subscriptions/{{{SUBSCRIPTION}}}/providers/"
_OF_GROUP: Final = f"/subscriptions/{{{SUBSCRIPTION}}}/resourceGroups/{{resourceGroup}}/providers/"
_NETWORK: Final = "2024-05-01"


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """A call with placeholders.

    Attributes:
        lists: what it lists, as a phrase.
        permission: the action that Azure asks the identity for.
    """

    name: str
    lists: str
    permission: str
    call: ApiRequest

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the values it needs."""
        return placeholders(self.call.resource_path) or (SUBSCRIPTION,)

    def request(self, values: Mapping[str, str | int]) -> ApiRequest:
        """Return the call with those of `values` that it has placeholders for; one of Resource Graph asks the subscription.

        Raises:
            RequestRefused: if a value is missing.
        """
        missing = [name for name in self.parameters if name not in values]
        if missing:
            raise RequestRefused(f"template {self.name}: {', '.join(missing)} must be given")
        if self.call.body is not None:
            return msgspec.structs.replace(self.call, body={**self.call.body, "subscriptions": [str(values[SUBSCRIPTION])]})
        return msgspec.structs.replace(self.call, parameters={name: values[name] for name in self.parameters})


def _listing(name: str, lists: str, service: str, kind: str, version: str) -> CallTemplate:
    """Return the template for all resources of a `kind`, such as ``Microsoft.Sql/servers``, in a subscription."""
    path = _OF_SUBSCRIPTION + kind
    return CallTemplate(name, lists, f"{kind}/read", ApiRequest(service=service, api_version=version, resource_path=path))


def _inside(name: str, lists: str, service: str, path: str, version: str) -> CallTemplate:
    """Return the template for what is inside a resource, by the path from its provider on."""
    kinds = "/".join(part for part in path.split("/") if not part.startswith("{"))
    call = ApiRequest(service=service, api_version=version, resource_path=_OF_GROUP + path)
    return CallTemplate(name, lists, f"{kinds}/read", call)


_GRAPH: Final = CallTemplate(
    "graph",
    "all resources, by a query of Azure Resource Graph",
    "*/read, on what is to be found",
    ApiRequest(
        service="resourcegraph",
        api_version="2022-10-01",
        method=Method.POST,
        resource_path="/providers/Microsoft.ResourceGraph/resources",
        body={"query": "Resources | project id, name, type, location, tags | order by id asc"},
    ),
)

TEMPLATES: Final[Mapping[str, CallTemplate]] = MappingProxyType(
    {
        template.name: template
        for template in (
            _listing("vms", "virtual machines", "compute", "Microsoft.Compute/virtualMachines", "2024-07-01"),
            _listing("nics", "network interfaces", "network", "Microsoft.Network/networkInterfaces", _NETWORK),
            _listing("vnets", "virtual networks, with their subnets", "network", "Microsoft.Network/virtualNetworks", _NETWORK),
            _inside(
                "subnets",
                "subnets of one virtual network",
                "network",
                "Microsoft.Network/virtualNetworks/{virtualNetwork}/subnets",
                _NETWORK,
            ),
            _listing(
                "nsgs", "network security groups, with rules", "network", "Microsoft.Network/networkSecurityGroups", _NETWORK
            ),
            _listing("public-ips", "public IP addresses", "network", "Microsoft.Network/publicIPAddresses", _NETWORK),
            _listing("load-balancers", "load balancers", "network", "Microsoft.Network/loadBalancers", _NETWORK),
            _listing("private-endpoints", "private endpoints", "network", "Microsoft.Network/privateEndpoints", _NETWORK),
            _listing(
                "aks", "managed Kubernetes clusters", "container", "Microsoft.ContainerService/managedClusters", "2024-09-01"
            ),
            _listing("storage", "storage accounts", "storage", "Microsoft.Storage/storageAccounts", "2023-05-01"),
            _listing("sql-servers", "SQL servers", "database", "Microsoft.Sql/servers", "2023-08-01"),
            _inside(
                "sql-databases",
                "databases of one SQL server",
                "database",
                "Microsoft.Sql/servers/{server}/databases",
                "2023-08-01",
            ),
            _listing(
                "key-vaults", "key vaults, without what is in them", "security", "Microsoft.KeyVault/vaults", "2023-07-01"
            ),
            _listing(
                "role-assignments",
                "role assignments: who may do what",
                "security",
                "Microsoft.Authorization/roleAssignments",
                "2022-04-01",
            ),
            _GRAPH,
        )
    }
)
"""By name."""


def calls_of(templates: Iterable[str], subscriptions: Iterable[str], values: Mapping[str, str | int]) -> list[ApiRequest]:
    """Return the calls of all `templates` in all `subscriptions`; `values` are their other parameters.

    Raises:
        RequestRefused: if a template is unknown, a value is missing or is not a parameter of any of them, or the calls are too
            many for one request.
    """
    chosen = [_named(name) for name in templates]
    used = {name for template in chosen for name in template.parameters} - {SUBSCRIPTION}
    if unused := sorted(values.keys() - used):
        raise RequestRefused(f"{unused[0]}: no template that is asked for has this parameter{did_you_mean(unused[0], used)}")
    calls = [template.request({**values, SUBSCRIPTION: one}) for one in subscriptions for template in chosen]
    if len(calls) > MOST_CALLS:
        raise RequestRefused(f"{len(calls)} calls are too many for one request: give fewer templates or subscriptions")
    return calls


def _named(name: str) -> CallTemplate:
    if name not in TEMPLATES:
        raise RequestRefused(f"unknown template {name!r}{did_you_mean(name, TEMPLATES)} (known are {', '.join(TEMPLATES)})")
    return TEMPLATES[name]


_SUBSCRIPTION_EXAMPLE: Final = "00000000-0000-0000-0000-000000000000"
_EXAMPLE_VALUES: Final = MappingProxyType(
    {SUBSCRIPTION: _SUBSCRIPTION_EXAMPLE, "resourceGroup": "shop", "virtualNetwork": "shop-vnet", "server": "shop-sql"}
)
_EXAMPLE_TIME: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)


def example_requests() -> Iterator[CollectionRequest]:
    """Yield requests that show what can be asked for."""
    yield _example("one-machine", [_ONE_MACHINE], correlation_id="inventory-42")
    network = [name for name, template in TEMPLATES.items() if template.call.service == "network"]
    yield _example("network", [TEMPLATES[name].request(_EXAMPLE_VALUES) for name in network], metadata={"reason": "nightly"})
    yield _example("urgent-query", [_GRAPH.request(_EXAMPLE_VALUES)], priority=Priority.HIGH)


def _example(name: str, calls: list[ApiRequest], **more: Any) -> CollectionRequest:
    return CollectionRequest(message_id=f"example-{name}", api_requests=calls, timestamp=_EXAMPLE_TIME, **more)


_ONE_MACHINE: Final = ApiRequest(
    service="compute",
    api_version="2024-07-01",
    resource_path=_OF_GROUP + "Microsoft.Compute/virtualMachines/{vmName}",
    parameters={SUBSCRIPTION: _SUBSCRIPTION_EXAMPLE, "resourceGroup": "shop", "vmName": "web-1"},
    query_params={"$expand": "instanceView"},
)
