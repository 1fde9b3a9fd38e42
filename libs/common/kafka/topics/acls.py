"""Rights on a broker with an enabled authorizer: find those that are missing, and grant them.

Rights are never revoked: those beyond the wanted ones are shown and left to the operator.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from libs.common.errors import BlobtideError
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, check_reachable, make_admin
from libs.common.settings.kafka import KafkaSettings


class Operation(StrEnum):
    """An operation, by Kafka's name. Read, Write and Alter include Describe; AlterConfigs includes DescribeConfigs."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    ALTER = "Alter"
    DESCRIBE = "Describe"
    ALTER_CONFIGS = "AlterConfigs"
    DESCRIBE_CONFIGS = "DescribeConfigs"


class On(StrEnum):
    """What a right applies to."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_IDS = "transactional ids from"  # all ids that begin with the name


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """An operation that `principal`, such as ``User:parser``, may perform from any host."""

    principal: str
    operation: Operation
    on: On
    name: str

    def __str__(self) -> str:
        return f"{self.principal} may {self.operation} {self.on} {self.name}"

    def command(self, bootstrap_servers: str) -> str:
        """Return the command that grants this with Kafka's own tools."""
        kind = "--transactional-id" if self.on is On.TRANSACTIONAL_IDS else f"--{self.on}"
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap_servers, "--command-config", "admin.properties", "--add"]
        words += ["--allow-principal", self.principal, "--operation", self.operation.value, kind, self.name]
        prefixed = ["--resource-pattern-type", "prefixed"] if self.on is On.TRANSACTIONAL_IDS else []
        return shlex.join([*words, *prefixed])


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between the wanted rights and those that the same principals have on the broker."""

    missing: tuple[Right, ...]
    beyond: tuple[str, ...]  # as lines for people, since they may be of any kind


_KINDS: Final = {
    On.TOPIC: (ResourceType.TOPIC, ResourcePatternType.LITERAL),
    On.GROUP: (ResourceType.GROUP, ResourcePatternType.LITERAL),
    On.TRANSACTIONAL_IDS: (ResourceType.TRANSACTIONAL_ID, ResourcePatternType.PREFIXED),
}
_OPERATIONS: Final = {
    Operation.READ: AclOperation.READ,
    Operation.WRITE: AclOperation.WRITE,
    Operation.CREATE: AclOperation.CREATE,
    Operation.ALTER: AclOperation.ALTER,
    Operation.DESCRIBE: AclOperation.DESCRIBE,
    Operation.ALTER_CONFIGS: AclOperation.ALTER_CONFIGS,
    Operation.DESCRIBE_CONFIGS: AclOperation.DESCRIBE_CONFIGS,
}


def compare_rights(kafka: KafkaSettings, wanted: Collection[Right]) -> Difference:
    """Return how the broker's rights differ from `wanted`, without changing anything.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        BlobtideError: if its authorizer is off, or this user may not describe rights.
    """
    check_reachable(kafka)
    admin = make_admin(kafka)
    _refuse_the_blind(admin)
    present = answer_of(admin.describe_acls(_everything(), request_timeout=ANSWER_SECONDS), "listing the rights of users")
    bindings = {_binding(right): right for right in wanted}
    principals = {right.principal for right in wanted}
    beyond = [found for found in present if found.principal in principals and found not in bindings]
    missing = [right for binding, right in bindings.items() if binding not in present]
    return Difference(tuple(missing), tuple(sorted(map(_line, beyond))))


def grant_rights(kafka: KafkaSettings, rights: Sequence[Right]) -> None:
    """Grant `rights`; existing rights are kept.

    Raises:
        BlobtideError: if Kafka refuses; the message names the right.
    """
    if not rights:
        return
    admin = make_admin(kafka)
    answers = admin.create_acls([_binding(right) for right in rights], request_timeout=ANSWER_SECONDS)
    for right in rights:
        answer_of(answers[_binding(right)], f"granting that {right}")


def _refuse_the_blind(admin: AdminClient) -> None:
    """Raise BlobtideError if this user may not see rights, since Kafka would report that there are none."""
    asked = admin.describe_cluster(include_authorized_operations=True, request_timeout=ANSWER_SECONDS)
    may = answer_of(asked, "querying this user's rights").authorized_operations or ()
    if AclOperation.DESCRIBE not in may:
        raise BlobtideError(
            "this user may not see the rights of others: it needs Describe on the cluster (Alter, to grant rights)"
        )


def _binding(right: Right) -> AclBinding:
    kind, pattern = _KINDS[right.on]
    operation = _OPERATIONS[right.operation]
    return AclBinding(kind, right.name, pattern, right.principal, "*", operation, AclPermissionType.ALLOW)


def _everything() -> AclBindingFilter:
    unfiltered: Any = None
    return AclBindingFilter(
        ResourceType.ANY, unfiltered, ResourcePatternType.ANY, unfiltered, unfiltered, AclOperation.ANY, AclPermissionType.ANY
    )


def _line(found: Any) -> str:
    may = "may" if found.permission_type is AclPermissionType.ALLOW else "may not"
    prefixed = " prefixed" if found.resource_pattern_type is ResourcePatternType.PREFIXED else ""
    host = "" if found.host == "*" else f" from {found.host}"
    return f"{found.principal} {may} {found.operation.name} {found.restype.name.lower()}{prefixed} {found.name}{host}"
