"""The Azure of an estate as it is now: every few seconds something changes, so that a collector finds changes.

What there is follows from the spec and the time, so that a server that starts again shows the same.
"""

from __future__ import annotations

import copy
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from libs.demo.arm.resources import GROUPS, MACHINES, EstateInventory, Resource, of_interface
from libs.demo.arm.server import AzureWorld, Listed, ReceivedRequest, Reply, error
from libs.demo.spec import EstateSpec

CHANGE_SECONDS: Final = 15.0
PHASES: Final = 6
_APPEARS, _RULE, _GROUP_GOES, _TAG, _RESIZED = range(1, PHASES)
_PAGE: Final = 100
_REMEMBERED: Final = 100  # requests
_OF_SUBSCRIPTION: Final = re.compile(r"(/subscriptions/[^/]+/)providers/[^/]+/[^/]+")
_SUBSCRIPTION_AT: Final = 2  # in /subscriptions/<id>/..., split at its slashes


class EstateWorld(AzureWorld):
    """Answers reading requests about the resources of an estate; nothing can be changed from outside.

    Args:
        spec: of the flow logs, whose interfaces these resources are about.
        clock: seconds since 1970.
    """

    def __init__(self, spec: EstateSpec, clock: Callable[[], float] = time.time) -> None:
        self._inventory = EstateInventory(spec)
        self._clock = clock
        self._phases: dict[int, tuple[Resource, ...]] = {}
        super().__init__(subscriptions=self._inventory.subscriptions, page_size=_PAGE, asked=deque(maxlen=_REMEMBERED))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources as they are now."""
        phase = int(self._clock() / CHANGE_SECONDS) % PHASES
        if phase not in self._phases:
            self._phases[phase] = tuple(_as_of(self._inventory, phase))
        return self._phases[phase]

    def _everything(self, subscriptions: Sequence[str]) -> Listed:
        found = [one for one in self.resources if "location" in one and _subscription(one["id"]) in subscriptions]
        return Listed(len(found), lambda numbers: [found[number] for number in numbers])

    def _of_resources(self, asked: ReceivedRequest) -> Reply:
        path = asked.path.lower()
        subscription, _, provider = path.partition("/providers/")
        if not provider or _subscription(subscription) not in self.subscriptions:
            return error(404, "SubscriptionNotFound", "the subscription is not one of the demo")
        if asked.method != "GET":
            return error(403, "AuthorizationFailed", "resources of the demo can only be read")
        namespace, *rest = provider.split("/")
        kind = "/".join([namespace, *rest[::2]])
        if kind not in {str(one["type"]).lower() for one in self._known()}:
            return error(400, "NoRegisteredProviderFound", f"the demo has nothing of the type {kind}")
        return self._list(asked, self._listed(path, kind)) if len(rest) % 2 else self._one(path)

    def _known(self) -> list[Resource]:
        """Return all resources, with those that others have inside."""
        inside = [subnet for one in self.resources for subnet in one["properties"].get("subnets", ())]
        return [*self.resources, *inside]

    def _listed(self, path: str, kind: str) -> Listed:
        of_all = _OF_SUBSCRIPTION.fullmatch(path)
        above = of_all[1] if of_all else f"{path}/"
        found = [one for one in self._known() if one["type"].lower() == kind and one["id"].lower().startswith(above)]
        return Listed(len(found), lambda numbers: [found[number] for number in numbers])

    def _one(self, path: str) -> Reply:
        found = [one for one in self._known() if one["id"].lower() == path]
        return Reply(200, found[0]) if found else error(404, "ResourceNotFound", f"the demo has no {path}")


def _as_of(inventory: EstateInventory, phase: int) -> list[Resource]:
    """Return the resources after the first changes: a machine appears, a rule changes, a security group goes, and so on."""
    found = list(inventory.resources)
    if phase >= _APPEARS:
        found += [_resized(one) if phase >= _RESIZED else one for one in of_interface(inventory.next_interface)]
    if phase >= _RULE:
        _replace(found, GROUPS, _open_to_fewer)
    if phase >= _GROUP_GOES:
        del found[max(at for at, one in enumerate(found) if one["type"] == GROUPS)]
    if phase >= _TAG:
        _replace(found, MACHINES, _handed_over)
    return found


def _replace(found: list[Resource], kind: str, changed: Callable[[Resource], None]) -> None:
    """Change a copy of the first resource of a kind."""
    at = next(at for at, one in enumerate(found) if one["type"] == kind)
    found[at] = copy.deepcopy(found[at])
    changed(found[at])


def _open_to_fewer(group: Resource) -> None:
    group["properties"]["securityRules"][0]["properties"]["sourceAddressPrefix"] = "198.18.0.0/15"


def _handed_over(machine: Resource) -> None:
    machine["tags"]["owner"] = "platform"


def _resized(resource: Resource) -> Resource:
    if resource["type"] != MACHINES:
        return resource
    properties: dict[str, Any] = {**resource["properties"], "hardwareProfile": {"vmSize": "Standard_D4s_v5"}}
    return {**resource, "properties": properties}


def _subscription(path: str) -> str:
    parts = path.split("/")
    return parts[_SUBSCRIPTION_AT] if len(parts) > _SUBSCRIPTION_AT else ""
