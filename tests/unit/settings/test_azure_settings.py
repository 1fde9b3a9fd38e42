"""The cloud and the credential that are set once: who gets them, and who has their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.common.azure.storage.credentials import resolve
from libs.common.errors import ConfigError
from libs.common.settings import Settings, load_settings, masked
from libs.common.settings.azure import AzureSettings, Cloud, CredentialKind
from services.cli.up.settings import settings_for

SHARED = {"cloud": "government", "credential": {"kind": "managed_identity", "client_id": "shared-1"}}
OWN = {"credential": {"kind": "managed_identity", "client_id": "own-1"}}


def loaded(tmp_path: Path, **groups: Any) -> Settings:
    """Return settings with these groups; YAML reads JSON."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(groups))
    return load_settings(file)


def accounts(**storages: dict[str, Any]) -> dict[str, Any]:
    """Return a subscription with an environment for each account."""
    return {
        "s": {"environments": {name: {"storage": one, "sources": [{"container": "logs"}]} for name, one in storages.items()}}
    }


def test_accounts_and_the_collector_use_what_is_set_for_all_of_azure(tmp_path: Path) -> None:
    """Unless they set something themselves; the earlier setting for a managed identity still works, in the same cloud."""
    queue = {"queue": "requests", "storage": {"account_name": "queues"}}
    settings = loaded(
        tmp_path,
        azure=SHARED,
        subscriptions=accounts(
            plain={"account_name": "logs"},
            own={"account_name": "logs", "azure": OWN},
            old={"account_name": "logs", "managed_identity_client_id": "old-1"},
        ),
        collector={"queue": queue},
    )
    storages = {name: one.storage for name, one in settings.subscriptions["s"].environments.items()}
    found = {name: (one.identity.cloud, one.identity.credential.client_id) for name, one in storages.items()}
    assert found == {
        "plain": (Cloud.GOVERNMENT, "shared-1"),
        "own": (Cloud.PUBLIC, "own-1"),
        "old": (Cloud.GOVERNMENT, "old-1"),
    }
    assert storages["old"].identity.credential.kind is CredentialKind.DEFAULT
    assert settings.collector.identity == settings.azure
    assert settings.collector.queue is not None
    assert settings.collector.queue.storage.identity == settings.azure
    assert resolve(storages["plain"], "s.plain").endpoint.host == "logs.blob.core.usgovcloudapi.net"
    assert resolve(storages["own"], "s.own").endpoint.host == "logs.blob.core.windows.net"


def test_without_the_group_everything_is_as_it_was(tmp_path: Path) -> None:
    """Nothing is added to accounts, and the default chain signs in to the public cloud."""
    settings = loaded(tmp_path, subscriptions=accounts(e={"account_name": "logs"}))
    storage = settings.subscriptions["s"].environments["e"].storage
    assert (storage.azure, storage.identity, settings.collector.azure) == (None, AzureSettings(), None)


def test_two_identities_of_one_account_are_refused(tmp_path: Path) -> None:
    """It would not be clear which one signs in."""
    both = {"account_name": "logs", "managed_identity_client_id": "a", "azure": OWN}
    with pytest.raises(ConfigError, match=r"managed_identity_client_id or azure.credential, not both"):
        loaded(tmp_path, subscriptions=accounts(e=both))


def test_programs_get_the_credential_only_if_they_sign_in_to_azure(tmp_path: Path) -> None:
    """Of what `blobtide up` starts, the parser gets none; what it hands over can be loaded again."""
    principal = {"kind": "client_secret", "tenant_id": "t", "client_id": "c", "client_secret": "hunter2-of-app"}
    settings = loaded(
        tmp_path,
        azure={"credential": principal},
        subscriptions=accounts(e={"account_name": "logs"}, old={"account_name": "logs", "managed_identity_client_id": "a"}),
        sinks={"stdout": {}},
    )
    handed = {name: settings_for(name.split(), settings) for name in ("parser", "ingest", "collector", "sink stdout")}
    holding = {name for name, values in handed.items() if "hunter2-of-app" in json.dumps(values)}
    assert holding == {"ingest", "collector", "sink stdout"}
    again = loaded(tmp_path, **handed["ingest"]).subscriptions["s"].environments
    assert again == settings.subscriptions["s"].environments
    assert "hunter2" not in str(masked(settings))
