"""What to read: subscriptions and their environments, each with one storage account and its containers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from libs.common.messages.blobs import CONTAINER_PATTERN
from libs.common.messages.events import Stream
from libs.common.settings.azure import AzureLoginSettings, AzureSettings
from libs.common.settings.base import Group
from libs.common.settings.name_pattern import NamePattern, kubernetes_names
from libs.common.settings.selectors import SelectorSettings

Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]


class NameLayout(StrEnum):
    """How blob names encode time, which determines how a container is listed in the steady state."""

    HOURLY = "hourly"  # .../y=YYYY/m=MM/d=DD/h=HH/m=00/...: resource directories, then hours
    DATED = "dated"  # <prefix>YYYYMMDD...: one prefix per day
    FLAT = "flat"  # no time in the name: the whole prefix every time


class SourceLayout(StrEnum):
    """The layouts of names that a source may have: those above, and one with defaults for all that follows from it."""

    HOURLY = "hourly"
    DATED = "dated"
    FLAT = "flat"
    KUBERNETES = "kubernetes"  # dated, kubernetes/YYYYMMDD.<pod>_<namespace>_<container>-<container id>.gz


class StorageAccount(AzureLoginSettings):
    """One storage account and one way to sign in to it: a key, a SAS, or else an identity."""

    account_url: str | None = Field(default=None, description="https://NAME.blob.core.windows.net, or the URL of an emulator.")
    account_name: str | None = Field(default=None, pattern=r"^[a-z0-9]{3,24}$", description="Shorthand for account_url.")
    dns_suffix: str | None = Field(
        default=None, description="DNS suffix; used with account_name. Default: that of the cloud, such as core.windows.net."
    )
    connection_string: SecretStr | None = Field(default=None, description="Connection string with account key or SAS.")
    connection_string_file: Path | None = Field(default=None, description="File that holds the connection string.")
    account_key: SecretStr | None = Field(default=None, description="Account key, in base64.")
    account_key_file: Path | None = Field(default=None, description="File that holds the account key.")
    sas_token: SecretStr | None = Field(default=None, description="Shared access signature with read and list permissions.")
    sas_token_file: Path | None = Field(default=None, description="File that holds the shared access signature.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = [
            name
            for name in ("connection_string", "account_key", "sas_token")
            if getattr(self, name) is not None or getattr(self, f"{name}_file") is not None
        ]
        if len(ways) > 1:
            raise ValueError(f"give only one way to sign in, not {' and '.join(ways)}")
        if ways != ["connection_string"] and not (self.account_url or self.account_name):
            raise ValueError("give connection_string, or account_name (or account_url) with a key, SAS or identity")
        return self


_KUBERNETES: Final = {"prefix": "kubernetes/", "stream": Stream.APPLICATION_LOGS}
# Labels that are not parts of names.
_RESERVED: Final = ("subscription", "environment")


class Source(Group):
    """One container, or a prefix in it, to follow."""

    container: str = Field(pattern=CONTAINER_PATTERN, description="Container name.")
    stream: Stream = Field(
        default=Stream.FLOW_LOGS,
        description="Stream, which selects the raw topic for the content. Layout kubernetes, and sources with selectors: "
        "application_logs.",
    )
    layout: SourceLayout = Field(
        default=SourceLayout.HOURLY,
        description="How blob names encode time; kubernetes is dated, with defaults for prefix, stream and name_pattern.",
    )
    prefix: str = Field(default="", description="Name prefix, applied by the server. Layout kubernetes: kubernetes/.")
    include: tuple[str, ...] = Field(
        default=(), description="Globs (**, *, ?, {a,b}), one of which a name must match. Default: all."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Globs, none of which a name may match.")
    name_pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2) for whole names, whose named groups become labels. Layout kubernetes: its own.",
    )
    selectors: tuple[SelectorSettings, ...] = Field(
        default=(),
        description="Services whose blobs are followed, and no others; the first that takes a name wins. Default: all.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        """Fill in what follows from the layout and from selectors."""
        if not isinstance(values, dict):
            return values
        defaults = _KUBERNETES if values.get("layout") == SourceLayout.KUBERNETES else {}
        if values.get("selectors"):
            defaults = {**defaults, "stream": Stream.APPLICATION_LOGS}
        return {**defaults, **values}

    @model_validator(mode="after")
    def _selectors_work(self) -> Self:
        try:
            groups = self.names.groups if self.names is not None else ()
        except ValueError as error:
            raise ValueError(f"name_pattern: {error}") from error
        if taken := {*groups} & {*_RESERVED, *(("service",) if self.selectors else ())}:
            raise ValueError(f"name_pattern: {min(taken)} is a label already; name the group differently")
        if self.selectors and self.layout is SourceLayout.HOURLY:
            raise ValueError("selectors need a layout with the date at the beginning (kubernetes, dated), or none (flat)")
        for place, selector in enumerate(self.selectors):
            self._check(selector, groups, [other.name for other in self.selectors[:place]])
        return self

    def _check(self, selector: SelectorSettings, groups: tuple[str, ...], others: list[str]) -> None:
        if selector.name in others:
            raise ValueError(f"two selectors are named {selector.name}; the name says which service it is")
        if self.layout is not SourceLayout.FLAT and selector.prefix[:1].isdigit():
            raise ValueError(f"selector {selector.name}: its prefix follows a date, so it cannot begin with a digit")
        if missing := [part for part in selector.conditions() if part not in groups]:
            raise ValueError(
                f"selector {selector.name} has a condition on {missing[0]}: set layout: kubernetes, or a name_pattern with the "
                f"group (?P<{missing[0]}>...)"
            )

    @property
    def times(self) -> NameLayout:
        """How names encode time."""
        return NameLayout.DATED if self.layout is SourceLayout.KUBERNETES else NameLayout(self.layout.value)

    @property
    def names(self) -> NamePattern | None:
        """The pattern of names, compiled."""
        if self.name_pattern is not None:
            return NamePattern(self.name_pattern)
        return kubernetes_names(self.prefix) if self.layout is SourceLayout.KUBERNETES else None


QUEUE_PATTERN: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class EventQueue(Group):
    """A queue of the storage account to which Event Grid delivers events about its blobs."""

    queue: str = Field(pattern=QUEUE_PATTERN, min_length=3, max_length=63, description="Name of the queue.")
    service_url: str | None = Field(
        default=None,
        description="URL of the queue service, https://NAME.queue.core.windows.net. Default: that of the storage account. "
        "The account's credentials are used.",
    )


class Environment(Group):
    """One environment of a subscription."""

    enabled: bool = Field(default=True, description="Whether the environment is listed and read.")
    storage: StorageAccount
    sources: tuple[Source, ...] = Field(min_length=1)
    interval_seconds: float | None = Field(default=None, gt=0, description="Overrides monitor.interval_seconds.")
    events: EventQueue | None = Field(default=None, description="Queue of Event Grid events, if there is one.")


class Subscription(Group):
    """One subscription."""

    environments: dict[Alias, Environment]

    def with_azure(self, shared: AzureSettings) -> Self:
        """Return the same with what is set for all of Azure, for accounts that set nothing themselves."""
        environments = {
            name: environment.model_copy(update={"storage": environment.storage.with_default(shared)})
            for name, environment in self.environments.items()
        }
        return self.model_copy(update={"environments": environments})


Subscriptions = dict[Alias, Subscription]


def account_alias(subscription: str, environment: str) -> str:
    """Return the alias that prefixes the ids of this environment's blobs."""
    return f"{subscription}.{environment}"
