"""Settings of the collector."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, field_validator, model_validator

from libs.common.cron import CronTimes
from libs.common.http.method import Method
from libs.common.settings.azure import AzureLoginSettings, AzureSettings
from libs.common.settings.base import Group, listed
from libs.common.settings.collector_api import CollectionApiSettings
from libs.common.settings.references import NAME_PATTERN, VAULT_PATTERN, SecretReference
from libs.common.settings.storage import QUEUE_PATTERN, EventQueue, StorageAccount
from libs.common.settings.time_zone import TimeZoneName

IGNORED: Final = (
    "etag",
    "provisioningState",
    "lastModified",
    "lastModifiedAt",
    "lastModifiedTime",
    "lastModifiedTimeUtc",
    "changedTime",
    "earliestRestoreDate",
)
"""Members that Azure changes by itself, or with every change of others."""


class RequestQueue(EventQueue):
    """A queue from which requests are taken, besides those in Kafka."""

    storage: StorageAccount
    visibility_seconds: int = Field(
        default=120,
        ge=5,
        le=604_800,
        description="Seconds after which a message comes again if the collector that received it has died.",
    )
    max_deliveries: int = Field(
        default=5, ge=1, description="Deliveries after which a message that is not handled goes to Errors."
    )
    poison_queue: str | None = Field(
        default=None,
        pattern=QUEUE_PATTERN,
        min_length=3,
        max_length=63,
        description="Queue that gets what goes to Errors, if it exists. Default: the name of the queue with -poison.",
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="Seconds between looks into an empty queue.")

    def with_azure(self, shared: AzureSettings) -> Self:
        """Return the same with what is set for all of Azure, if the account sets nothing itself."""
        return self.model_copy(update={"storage": self.storage.with_default(shared)})

    @property
    def poison(self) -> EventQueue:
        """The poison queue, in the same account."""
        return EventQueue(queue=self.poison_queue or f"{self.queue}-poison", service_url=self.service_url)

    @model_validator(mode="after")
    def _has_another_poison_queue(self) -> Self:
        try:
            name = self.poison.queue
        except ValueError as error:
            raise ValueError("queue is too long for one with -poison at its end; set poison_queue") from error
        if name == self.queue:
            raise ValueError("poison_queue must not be the queue itself: its messages would come again and again")
        return self


class CollectorVault(Group):
    """A secret with the subscription and the tenant for requests that name none, in the format of the Azure Cloud Collector."""

    model_config = ConfigDict(regex_engine="python-re")  # for the pattern of a vault, which looks ahead

    vault: str = Field(pattern=rf"^{VAULT_PATTERN}\Z", description="Name of the key vault, which azure.credential reads.")
    secret: str = Field(
        default="azure-collector-creds",
        pattern=rf"^{NAME_PATTERN}\Z",
        description="Name of the secret: JSON with subscription_id and tenant_id.",
    )
    refresh_hours: float = Field(
        default=6.0, ge=0.1, description="Hours after which it is read again; sooner if Azure answers with 401."
    )

    @property
    def reference(self) -> SecretReference:
        """The secret."""
        return SecretReference(self.vault.lower(), self.secret.lower())


class Priority(StrEnum):
    """Which requests go first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class CollectionSchedule(Group):
    """A request that is made again and again: in each period, which every_minutes or cron divides time into."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name, with which the ids of its requests begin."
    )
    templates: tuple[str, ...] = Field(min_length=1, description="What to list, as `blobtide collector templates` names it.")
    subscriptions: tuple[str, ...] = Field(min_length=1, description="Ids of the subscriptions in which to list it.")
    parameters: dict[str, str] = Field(default_factory=dict, description="Other parameters of the templates.")
    every_minutes: float = Field(default=1_440.0, ge=0.1, description="Length of a period.")
    offset_minutes: float = Field(default=0.0, ge=0, description="When a period begins, in minutes after midnight (UTC).")
    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Instead of both: when a period begins: minute, hour, day of month, month and day of week (`5 * * * *`).",
    )
    timezone: TimeZoneName = Field(default="UTC", description="IANA time zone of cron.")
    jitter_minutes: float = Field(
        default=0.0,
        ge=0,
        description="By how much a request may be later, which differs by period. With cron, at most the period.",
    )
    late_minutes: float = Field(
        default=1_440.0,
        ge=1,
        le=20_160,
        description="By how much later it is still made if there was no collector; after that, its period is left out.",
    )
    priority: Priority = Field(default=Priority.NORMAL, description="Which requests go first.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = self.model_fields_set
        if self.cron is None:
            if "timezone" in given:
                raise ValueError("timezone needs cron: every_minutes and offset_minutes are in UTC")
            if self.jitter_minutes >= self.every_minutes:
                raise ValueError("jitter_minutes must be less than every_minutes")
        elif given & {"every_minutes", "offset_minutes"}:
            raise ValueError("give cron, or every_minutes and offset_minutes, not both")
        else:
            self.cron_times()
        return self

    def cron_times(self) -> CronTimes:
        """Return when periods begin that cron divides. Raises ValueError."""
        return CronTimes(self.cron or "", ZoneInfo(self.timezone))

    def __hash__(self) -> int:
        return hash(self.name)


class CollectorSettings(AzureLoginSettings):
    """The collector of Azure configuration. It signs in as a managed or workload identity, or as a service principal."""

    management_url: str | None = Field(
        default=None,
        description="Azure Resource Manager. Default: that of azure.cloud. Requests cannot choose another server.",
    )
    queue: RequestQueue | None = Field(default=None, description="Queue of requests, if there is one.")
    key_vault: CollectorVault | None = Field(
        default=None, description="Where the subscription and the tenant come from that requests leave open, if they may."
    )
    schedules: tuple[CollectionSchedule, ...] = Field(default=(), description="Requests that the collector makes by itself.")
    api: CollectionApiSettings | None = Field(default=None, description="API for requests, if there shall be one.")
    concurrency: int = Field(default=25, ge=1, le=64, description="Number of calls that are worked on at once.")
    methods: tuple[Method, ...] = Field(
        default=(),
        description="HTTP methods that requests may use besides GET (and queries of Resource Graph, which only read): a list, "
        "or comma-separated. A call of these may be made again if the process dies.",
    )
    ignore_changes_of: tuple[str, ...] = Field(
        default=IGNORED,
        max_length=100,
        description="What does not count as a change of a resource: names of members, anywhere except in tags, and paths with "
        "dots, such as `properties.subnets.*.properties.delegations`. Upper and lower case are the same.",
    )
    refresh_hours: float = Field(
        default=168.0,
        ge=1,
        description="Hours after which a resource that is still there is written again although it has not changed, so that "
        "`last_seen` says whether it is still seen.",
    )
    doubt_percent: float = Field(
        default=50.0,
        ge=0,
        le=100,
        description="If a list lacks more than this share of the resources that it would have, they are written as `missing`, "
        "and count as deleted only if the next list lacks them, too: permissions may be lost. 100: never.",
    )
    doubt_least: int = Field(default=10, ge=1, description="Resources that a list must lack for that.")
    most_pages: int = Field(default=10_000, ge=1, le=1_000_000, description="Pages after which a list is given up.")
    give_up_hours: float = Field(
        default=24.0, gt=0, description="Hours after which a call that Azure does not answer, or throttles, is given up."
    )
    commit_seconds: float = Field(default=1.0, gt=0, le=5, description="Maximum seconds between transactions.")
    commit_bytes: int = Field(default=8_388_608, ge=1_000_000, description="Bytes after which a transaction is committed.")

    @property
    def is_configured(self) -> bool:
        """Whether anything is set; cloud and credential do not count, which may come from what is set for all of Azure."""
        return self.model_copy(update={"azure": None}) != CollectorSettings()

    _comma_separated = field_validator("methods", "ignore_changes_of", mode="before")(listed)

    @field_validator("ignore_changes_of")
    @classmethod
    def _are_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not all(path.split(".")) or path == "*":
                raise ValueError(f"{path!r} is not the name of a member or a path such as properties.osProfile.secrets")
        return paths

    @field_validator("schedules")
    @classmethod
    def _have_names(cls, schedules: tuple[CollectionSchedule, ...]) -> tuple[CollectionSchedule, ...]:
        names = [schedule.name for schedule in schedules]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two schedules are named {twice[0]}; the name is part of the ids of requests")
        return schedules

    @model_validator(mode="after")
    def _is_a_server(self) -> Self:
        if self.management_url is None:
            return self
        try:
            parts = urlsplit(self.management_url)
            is_plain = parts.port != 0 and parts.path in {"", "/"} and not (parts.query or parts.fragment)
        except ValueError:
            raise ValueError("management_url is not a URL such as https://management.azure.com") from None
        if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None or not is_plain:
            raise ValueError("management_url must be a URL without path and user, such as https://management.azure.com")
        return self
