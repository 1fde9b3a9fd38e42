"""Which containers ingest may read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.settings.storage import Environment, Source, StorageAccount, Subscription
from services.ingest.sources import Sources
from tests.blob_container import FakeContainer

ACCOUNT = StorageAccount(account_name="account", account_key=SecretStr("a2V5"))


def environment(**settings: Any) -> Environment:
    """Return an environment with one container."""
    return Environment(storage=ACCOUNT, sources=(Source(container="logs"),), **settings)


def test_blobs_of_enabled_environments_are_read_and_no_others() -> None:
    """Each environment is an account of its own; one that is disabled or unknown is not opened."""
    opened: list[str] = []

    def open_container(account: StorageAccount, alias: str, container: str) -> FakeContainer:
        del account
        opened.append(f"{alias}/{container}")
        return FakeContainer()

    environments = {"dev": environment(), "ops": environment(), "off": environment(enabled=False)}
    sources = Sources({"sub": Subscription(environments=environments)}, open_container)
    assert sorted(opened) == ["sub.dev/logs", "sub.ops/logs"]
    assert sources.container(BlobId("sub.dev", "logs", "a")) is not sources.container(BlobId("sub.ops", "logs", "a"))
    for unknown in (BlobId("sub.off", "logs", "a"), BlobId("sub.dev", "more", "a"), BlobId("other.dev", "logs", "a")):
        assert sources.container(unknown) is None
    with pytest.raises(ConfigError, match="nothing to read"):
        Sources({"sub": Subscription(environments={"off": environment(enabled=False)})}, open_container)
