"""Commands whose settings refer to a key vault: those that read it, and those that need no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from libs.common.security.redaction import forget, redact
from services.cli.config.checks import UNREAD
from services.cli.main import blobtide
from services.cli.options import load
from services.cli.run import needs
from services.cli.up.settings import settings_for
from services.collector.main import defaults_of
from tests.azure_estate import APP, CLIENT_SECRET, AzureEstate, azure_estate
from tests.fakes.entra_server import TENANT
from tests.fakes.key_vault import StoredSecret, throttled

CREDENTIAL = {"kind": "client_secret", "tenant_id": TENANT, "client_id": APP, "client_secret": CLIENT_SECRET}
KAFKA = {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "kv://shop-vault/password"}
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEstate]:
    """Azure on this machine."""
    with azure_estate(tmp_path, monkeypatch) as found:
        yield found


def tried(tmp_path: Path, *words: str, **groups: Any) -> Result:
    """Run a command with settings that have these groups; YAML reads JSON."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"azure": {"credential": CREDENTIAL}, **groups}))
    file.chmod(0o600)
    return CliRunner().invoke(blobtide, (*words, "--config", str(file)))


def test_a_connection_to_key_vaults_names_each_secret_once_and_shows_none(estate: AzureEstate, tmp_path: Path) -> None:
    """Which vault, which secret, for which settings; the exit code is that of the first failure."""
    redis = {"password": "kv://shop-vault/password", "username": "kv://shop-vault/user"}
    both = tried(tmp_path, "test-connection", "keyvault", kafka=KAFKA, sinks={"redis": redis})
    assert both.stdout.splitlines() == [
        "ok  keyvault: vault shop-vault: secret password can be read (for kafka.sasl_password, sinks.redis.password)"
    ]
    assert "!!  keyvault: kv://shop-vault/user: Key Vault answers 404 SecretNotFound" in both.stderr
    assert "(for sinks.redis.username)" in both.stderr
    assert both.exit_code == 2
    assert estate.vault.asked == ["/secrets/password", "/secrets/user"]
    estate.vault.secrets["user"] = [StoredSecret("hunter3-user")]
    good = tried(tmp_path, "test-connection", "keyvault", kafka=KAFKA, sinks={"redis": redis})
    assert (good.exit_code, "hunter" in both.output + good.output) == (0, False)


def test_a_vault_that_is_away_is_another_exit_code(estate: AzureEstate, tmp_path: Path) -> None:
    """As for any server that cannot be reached."""
    estate.vault.faults.append(throttled(500))
    away = tried(tmp_path, "test-connection", "keyvault", kafka=KAFKA)
    assert (away.exit_code, "429 Throttled" in away.stderr) == (3, True)


def test_without_references_there_is_nothing_to_try(estate: AzureEstate, tmp_path: Path) -> None:
    """It says how to refer to a secret."""
    none = tried(tmp_path, "test-connection", "keyvault")
    assert "no setting refers to a key vault: give secrets as kv://VAULT/NAME" in str(none.exception)


def test_key_vaults_and_others_can_be_tried_at_once(estate: AzureEstate, tmp_path: Path) -> None:
    """A sink of that name goes first, as with the other names."""
    files = {"kind": "file", "directory": str(tmp_path / "files")}
    done = tried(tmp_path, "test-connection", "keyvault", "mine", kafka=KAFKA, sinks={"mine": files})
    assert "ok  keyvault: vault shop-vault" in done.stdout
    assert "ok  mine: connected" in done.stdout
    own = tried(tmp_path, "test-connection", "keyvault", kafka=KAFKA, sinks={"keyvault": files})
    assert "ok  keyvault: connected" in own.stdout


def test_settings_are_checked_and_shown_without_a_network(
    estate: AzureEstate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs a secret of a vault is not built, and said so; the rest is built; references are shown as they are."""
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    account = {"account_name": "logs", "account_key": "kv://shop-vault/key"}
    sources = [{"container": "logs"}]
    environments = {
        "a": {"storage": account, "sources": sources},
        "b": {"storage": {"account_name": "others"}, "sources": sources},
    }
    groups = {"subscriptions": {"s": {"environments": environments}}, "sinks": {"stdout": {}, "redis": {"url": "redis://h:1"}}}
    checked = tried(tmp_path, "config", "check", **groups)
    assert checked.exit_code == 0, checked.output
    remarks = dict(line.removeprefix("ok  ").partition(": ")[::2] for line in checked.stdout.splitlines())
    unread = {what for what, remark in remarks.items() if remark == UNREAD}
    assert unread == {"storage of s.a", "blob-monitor", "ingest"}
    assert {"Kafka clients", "storage of s.b", "parser", "collector", "sink redis"} <= remarks.keys() - unread
    shown = tried(tmp_path, "config", "show", kafka={**KAFKA, "bootstrap_servers": "kv://shop-vault/servers"})
    assert "bootstrap_servers: kv://shop-vault/servers" in shown.stdout
    assert estate.front.tunnels == []


def test_a_check_with_connections_reads_the_vault_first(estate: AzureEstate, tmp_path: Path) -> None:
    """The setting is named if a secret cannot be read."""
    estate.vault.readers = frozenset()
    checked = tried(tmp_path, "config", "check", "--connect", kafka=KAFKA)
    said = str(checked.exception)
    assert said.startswith("kafka.sasl_password: kv://shop-vault/password: Key Vault answers 403 ForbiddenByRbac")
    assert "Key Vault Secrets User" in said


def test_programs_of_up_show_nothing_that_came_from_a_vault(estate: AzureEstate, tmp_path: Path) -> None:
    """Each is told what to hide of its own settings; it reads no vault, and knows nothing of others."""
    estate.vault.secrets["user"] = [StoredSecret("user-of-kafka")]
    estate.vault.secrets["cache"] = [StoredSecret("cache-of-redis")]
    file = tmp_path / "config.yaml"
    sinks = {"redis": {"prefix": "kv://shop-vault/cache"}}
    kafka = {**KAFKA, "sasl_username": "kv://shop-vault/user"}
    file.write_text(json.dumps({"azure": {"credential": CREDENTIAL}, "kafka": kafka, "sinks": sinks}))
    settings = load(file)
    parser, sink = settings_for(("parser",), settings), settings_for(("sink", "redis"), settings)
    assert parser["log"]["hidden"] == ["hunter2-of-kafka", "user-of-kafka"]
    assert sink["log"]["hidden"] == ["cache-of-redis", "hunter2-of-kafka", "user-of-kafka"]
    file.write_text(json.dumps(sink))
    forget()
    load(file)
    assert redact("cache-of-redis user-of-kafka") == "*** ***"


def test_the_credentials_of_the_collector_are_tried_as_well(estate: AzureEstate, tmp_path: Path) -> None:
    """A secret that can be read, but is something else, is said without showing it."""
    world, collector = estate.vault, {"key_vault": {"vault": "Shop-Vault"}}
    world.secrets["azure-collector-creds"] = [StoredSecret("hunter2")]
    bad = tried(tmp_path, "test-connection", "keyvault", collector=collector)
    assert bad.exit_code == 2
    assert "!!  keyvault: kv://shop-vault/azure-collector-creds: not JSON; it must be" in bad.stderr
    good = json.dumps({"subscription_id": "11111111-1111-1111-1111-111111111111", "tenant_id": TENANT})
    world.secrets["azure-collector-creds"] = [StoredSecret(good)]
    done = tried(tmp_path, "test-connection", "keyvault", collector=collector)
    assert done.stdout == (
        "ok  keyvault: vault shop-vault: secret azure-collector-creds can be read (for collector.key_vault)\n"
    )
    wrong = tried(tmp_path, "test-connection", "keyvault", collector={"key_vault": {"vault": "a.b"}})
    assert "collector.key_vault.vault: " in str(wrong.exception)
    assert "hunter2" not in bad.output + done.output


def test_a_collector_reads_its_credentials_from_the_vault(estate: AzureEstate, tmp_path: Path) -> None:
    """As the identity for all of Azure, when it starts."""
    good = json.dumps({"subscription_id": "11111111-1111-1111-1111-111111111111", "tenant_id": TENANT})
    estate.vault.secrets["azure-collector-creds"] = [StoredSecret(good)]
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"azure": {"credential": CREDENTIAL}, "collector": {"key_vault": {"vault": "shop-vault"}}}))
    defaults = defaults_of(load(file))
    defaults.open()
    assert defaults.values()["tenantId"] == TENANT
    defaults.close()
    assert estate.vault.asked == ["/secrets/azure-collector-creds"]


@pytest.mark.parametrize(
    ("service", "asked"),
    [
        ("parser", ["kafka"]),
        ("blob-monitor", ["kafka", "storage"]),
        ("ingest", ["kafka", "storage"]),
        ("recorder", ["kafka", "source"]),
        ("collector", ["collector", "kafka"]),
        ("sinks.redis", ["kafka", "redis"]),
        ("sinks.red", ["kafka"]),
    ],
)
def test_a_service_reads_only_the_secrets_that_it_needs(
    estate: AzureEstate, tmp_path: Path, service: str, asked: list[str]
) -> None:
    """So each may have an identity that can read no others, and a secret of another keeps none from starting."""
    estate.vault.secrets = {name: [StoredSecret(f"hunter2-{name}")] for name in asked}
    secrets = {name: f"kv://shop-vault/{name}" for name in ("kafka", "storage", "source", "collector", "redis")}
    account = {"account_name": "logs", "account_key": secrets["storage"]}
    environments = {"e": {"storage": account, "sources": [{"container": "logs"}]}}
    queue = {"queue": "requests", "storage": {"account_name": "requests", "account_key": secrets["collector"]}}
    groups = {
        "azure": {"credential": CREDENTIAL},
        "kafka": {**KAFKA, "sasl_password": secrets["kafka"]},
        "subscriptions": {"s": {"environments": environments}},
        "recorder": {"sources": [{"name": "links", "url": "http://127.0.0.1:9", "bearer_token": secrets["source"]}]},
        "collector": {"queue": queue},
        "sinks": {"redis": {"password": secrets["redis"]}},
    }
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(groups))
    settings = load(file, partial(needs, service))
    assert sorted(estate.vault.asked) == [f"/secrets/{name}" for name in asked]
    assert sorted(reference.name for reference in settings.unread.values()) == sorted(secrets.keys() - set(asked))
