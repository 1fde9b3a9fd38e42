"""Environments for a settings file: what a new one contains, and those of the settings files of earlier systems. Pure.

The settings of the Commerce Logs Pipeline have the form ``subscriptions > environments > storage_account {account_name,
access_key}``, and name neither container nor content, since both were fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from libs.common.errors import ConfigError
from libs.common.settings.selectors import PRESETS

COMMERCE_CONTAINER: Final = "commerce-logs-separated"

Values = dict[str, Any]


class Contents(StrEnum):
    """What a container holds."""

    VNET_FLOW_LOGS = "vnet-flow-logs"
    NSG_FLOW_LOGS = "nsg-flow-logs"
    APPLICATION_LOGS = "application-logs"


_SOURCES: Final[Mapping[Contents, Values]] = {
    Contents.VNET_FLOW_LOGS: {"container": "insights-logs-flowlogflowevent"},
    Contents.NSG_FLOW_LOGS: {"container": "insights-logs-networksecuritygroupflowevent"},
    Contents.APPLICATION_LOGS: {"container": COMMERCE_CONTAINER, "layout": "kubernetes"},
}


@dataclass(frozen=True, slots=True)
class EnvironmentName:
    """The names of an environment: its subscription's, and its own."""

    subscription: str
    environment: str

    def __str__(self) -> str:
        """Return the alias under which its blobs are known."""
        return f"{self.subscription}.{self.environment}"


def source(contents: Contents, container: str | None, selectors: tuple[str, ...] = ()) -> Values:
    """Return the source of such content; by default in the container that Azure, or the pipeline, writes it to."""
    values = dict(_SOURCES[contents])
    if container is not None:
        values["container"] = container
    return values | ({"selectors": list(selectors)} if selectors else {})


def converted(values: object) -> dict[EnvironmentName, Values]:
    """Return the environments of a settings file of the Commerce Logs Pipeline.

    Raises:
        ConfigError: if it is not such a file; the message names what is missing.
    """
    found: dict[EnvironmentName, Values] = {}
    for subscription, its in _group(values, "subscriptions", "").items():
        path = f"subscriptions.{subscription}"
        for environment, content in _group(its, "environments", path).items():
            place = EnvironmentName(str(subscription), str(environment))
            found[place] = _environment(content, f"{path}.environments.{environment}")
    if not found:
        raise ConfigError("there are no environments in it")
    return found


def merged(values: Values, new: Mapping[EnvironmentName, Values], *, replace: bool) -> Values:
    """Return settings with more environments.

    Raises:
        ConfigError: if one of them is there already, and is not to be replaced.
    """
    result = deepcopy(values)
    for place, environment in new.items():
        subscription = result.setdefault("subscriptions", {}).setdefault(place.subscription, {})
        environments = subscription.setdefault("environments", {})
        if place.environment in environments and not replace:
            raise ConfigError(f"environment {place} is there already: give another name, or --replace")
        environments[place.environment] = environment
    return result


def _environment(content: object, path: str) -> Values:
    account = _group(content, "storage_account", path)
    if missing := [name for name in ("account_name", "access_key") if not account.get(name)]:
        raise ConfigError(f"{path}.storage_account has no {missing[0]}")
    storage = {"account_name": str(account["account_name"]), "account_key": str(account["access_key"])}
    return {"storage": storage, "sources": [source(Contents.APPLICATION_LOGS, None, tuple(PRESETS))]}


def _group(values: object, name: str, path: str) -> Mapping[Any, Any]:
    group = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(group, Mapping):
        raise ConfigError(f"not a settings file of the Commerce Logs Pipeline: there is no group {path and f'{path}.'}{name}")
    return group
