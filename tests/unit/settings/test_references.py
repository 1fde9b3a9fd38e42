"""References to key vaults in the settings: where they may stand, what they become, and how it is said that they cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.azure.storage.credentials import resolve
from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.security.redaction import redact
from libs.common.settings import Settings, load_settings, load_unread, masked
from libs.common.settings.azure import AzureSettings, Cloud
from libs.common.settings.references import SecretReference
from libs.common.settings.secrets import read_secret
from libs.common.settings.storage import StorageAccount

KAFKA = {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "kv://shop-vault/kafka"}


class Vaults:
    """Secrets by reference; or what is raised instead."""

    def __init__(self, secrets: Mapping[str, str | BlobtideError]) -> None:
        self.secrets = secrets
        self.opened: list[AzureSettings] = []
        self.asked: list[str] = []
        self.closed = 0

    def open(self, azure: AzureSettings) -> Vaults:
        """Open them as whoever the settings say."""
        self.opened.append(azure)
        return self

    def read(self, reference: SecretReference) -> str:
        """Return the secret, or raise what is there instead."""
        self.asked.append(str(reference))
        found = self.secrets[str(reference)]
        if isinstance(found, BlobtideError):
            raise found
        return found

    def close(self) -> None:
        """Count."""
        self.closed += 1


def file_of(tmp_path: Path, **groups: Any) -> Path:
    """Write settings; YAML reads JSON."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(groups))
    file.chmod(0o644)
    return file


def loaded(tmp_path: Path, vaults: Vaults, **groups: Any) -> Settings:
    """Return settings with these groups."""
    return load_settings(file_of(tmp_path, **groups), vaults.open)


def test_secrets_stand_where_references_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In secrets, other texts, options of sinks and lists, in the file and in variables; each secret is read once."""
    vaults = Vaults({"kv://shop-vault/kafka": "hunter2-of-kafka\n", "kv://other/name": "broker:9092"})
    given = {"kind": "elasticsearch", "username": "kv"}
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__PASSWORD", "kv://shop-vault/kafka")
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__HOSTS", '["http://a:1", "kv://other/name"]')
    settings = loaded(
        tmp_path,
        vaults,
        azure={"cloud": "china"},
        kafka={**KAFKA, "bootstrap_servers": "kv://OTHER/Name"},
        sinks={"search": given},
    )
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2-of-kafka"
    assert settings.kafka.bootstrap_servers == "broker:9092"
    options = {
        "kind": "elasticsearch",
        "username": "kv",
        "password": "hunter2-of-kafka",
        "hosts": ["http://a:1", "broker:9092"],
    }
    assert settings.sinks == {"search": options}
    assert sorted(vaults.asked) == ["kv://other/name", "kv://shop-vault/kafka"]
    assert ([azure.cloud for azure in vaults.opened], vaults.closed) == ([Cloud.CHINA], 1)


def test_what_came_from_a_vault_is_redacted_and_is_no_secret_in_the_file(tmp_path: Path) -> None:
    """Whether the setting is known to be secret or not; no warning says that the file holds secrets."""
    vaults = Vaults({"kv://shop-vault/kafka": "hunter2-of-kafka", "kv://shop-vault/user": "user-of-kafka"})
    kafka = {**KAFKA, "sasl_username": "kv://shop-vault/user"}
    settings = loaded(tmp_path, vaults, kafka=kafka)
    assert redact("user-of-kafka said hunter2-of-kafka") == "*** said ***"
    assert "hunter2" not in str(masked(settings))
    assert settings.notes == ()
    assert loaded(tmp_path, vaults, kafka={**kafka, "sasl_password": "in-the-file"}).notes != ()


def test_a_variable_that_overrides_a_reference_leaves_it_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is in effect is asked for."""
    monkeypatch.setenv("BLOBTIDE_KAFKA__SASL_PASSWORD", "mine")
    vaults = Vaults({})
    settings = loaded(tmp_path, vaults, kafka=KAFKA)
    assert (settings.kafka.sasl_password.get_secret_value(), vaults.opened) == ("mine", [])


def test_settings_without_references_open_no_vault(tmp_path: Path) -> None:
    """Nobody signs in for nothing."""
    vaults = Vaults({})
    loaded(tmp_path, vaults, kafka={**KAFKA, "sasl_password": "plain kv://a/b"})
    assert vaults.opened == []


@pytest.mark.parametrize(
    "text",
    [
        "kv://",
        "kv://vault",
        "kv://vault/",
        "kv://a.b/name",
        "kv://shop-vault.vault.azure.net/name",
        "kv://user:hunter2@vault/name",
        "kv://vault/na_me",
        "kv://vault/name/latest",
        "kv://vault/name/" + "0" * 31,
        "kv://ab/name",
        "kv://shop--vault/name",
        "KV://vault/name",
        "kv://vault/name?x",
        "kv://vault/name ",
        "kv://váult/name",
        f"kv://vault/{'n' * 128}",
    ],
)
def test_a_malformed_reference_is_named_with_what_to_give(tmp_path: Path, text: str) -> None:
    """It is neither used as a text nor shown, since it may hold a secret."""
    with pytest.raises(ConfigError, match=r"kafka\.sasl_password: not a reference to a secret: give kv://VAULT/NAME") as caught:
        loaded(tmp_path, Vaults({}), kafka={"sasl_password": text})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            {"azure": {"credential": {"kind": "client_secret", "client_secret": "kv://shop-vault/app"}}},
            r"azure\.credential\.client_secret: cannot come from a key vault, because it is needed to open one",
        ),
        ({"kafka": {"sasl_password_file": "kv://shop-vault/kafka"}}, "names a file; give sasl_password: kv://shop-vault/kafka"),
        ({"kafka": {"ssl_ca_file": "kv://shop-vault/ca"}}, "if there is no setting ssl_ca, write the secret to a file"),
        (
            {"sinks": {"http": {"headers": {"kv://shop-vault/name": "x"}}}},
            r"^sinks\.http\.headers: has a name that is a reference",
        ),
        (
            {"azure": {"credential": {"kind": "nothing"}}, "kafka": {"sasl_password": "kv://shop-vault/kafka"}},
            r"azure\.credential\.kind",
        ),
    ],
)
def test_a_reference_cannot_stand_where_it_would_not_work(tmp_path: Path, groups: dict[str, Any], said: str) -> None:
    """The credential that opens the vaults, names of files and of settings; and without a credential none is read."""
    vaults = Vaults({})
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, vaults, **groups)
    assert vaults.asked == []


def test_a_credential_of_an_account_may_come_from_a_vault(tmp_path: Path) -> None:
    """Another one opens it."""
    credential = {"kind": "client_secret", "tenant_id": "t", "client_id": "c", "client_secret": "kv://shop-vault/app"}
    account = {"account_name": "logs", "azure": {"credential": credential}}
    inside = {"e": {"storage": account, "sources": [{"container": "logs"}]}}
    vaults = Vaults({"kv://shop-vault/app": "hunter2-of-app"})
    settings = loaded(tmp_path, vaults, subscriptions={"s": {"environments": inside}})
    secret = settings.subscriptions["s"].environments["e"].storage.identity.credential.client_secret
    assert secret is not None
    assert secret.get_secret_value() == "hunter2-of-app"


def test_all_secrets_that_cannot_be_had_are_named_with_their_settings(tmp_path: Path) -> None:
    """Refused, empty, and one that leads on to another; each once."""
    vaults = Vaults(
        {
            "kv://shop-vault/one": ConfigError("kv://shop-vault/one: refused"),
            "kv://shop-vault/two": "\n",
            "kv://shop-vault/three": "kv://shop-vault/one",
        }
    )
    sinks = {name: {"password": f"kv://shop-vault/{secret}"} for name, secret in {"r": "one", "a": "two", "b": "three"}.items()}
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, vaults, kafka={"sasl_password": "kv://shop-vault/one"}, sinks=sinks)
    said = str(caught.value).split("; ")
    assert said[:2] == ["kafka.sasl_password: kv://shop-vault/one: refused", "sinks.a.password: kv://shop-vault/two is empty"]
    assert said[2].startswith("sinks.b.password: kv://shop-vault/three is a reference itself")
    assert (len(vaults.asked), vaults.closed) == (3, 1)


def test_a_vault_that_does_not_answer_ends_it_at_once(tmp_path: Path) -> None:
    """Others would not answer either, and the exit code says that a server is away."""
    away = ServerUnreachable("kv://shop-vault/one: no network")
    vaults = Vaults({"kv://shop-vault/one": away, "kv://shop-vault/two": away})
    sinks = {"redis": {"password": "kv://shop-vault/two"}}
    with pytest.raises(ServerUnreachable, match=r"kafka\.sasl_password: kv://shop-vault/one: no network"):
        loaded(tmp_path, vaults, kafka={"sasl_password": "kv://shop-vault/one"}, sinks=sinks)
    assert (vaults.asked, vaults.closed) == (["kv://shop-vault/one"], 1)


def test_a_secret_is_checked_like_any_other_value(tmp_path: Path) -> None:
    """The setting is named, the value is not shown."""
    vaults = Vaults({"kv://shop-vault/level": "hunter2"})
    with pytest.raises(ConfigError, match=r"log\.level: Input should be") as caught:
        loaded(tmp_path, vaults, log={"level": "kv://shop-vault/level"})
    assert "hunter2" not in str(caught.value)


def test_without_a_way_to_read_them_references_are_refused(tmp_path: Path) -> None:
    """They are never taken for the secret itself."""
    with pytest.raises(ConfigError, match="are not read here"):
        load_settings(file_of(tmp_path, kafka={"sasl_password": "kv://shop-vault/kafka"}))


def test_a_reference_that_was_not_read_is_never_used_as_a_secret() -> None:
    """Whoever needs it is told, instead of signing in with its name."""
    with pytest.raises(ConfigError, match="password is in a key vault, and was not read"):
        read_secret("password", SecretStr("kv://shop-vault/password"), None)
    with pytest.raises(ConfigError, match="account_key is in a key vault, and was not read"):
        resolve(StorageAccount(account_name="logs", account_key=SecretStr("kv://shop-vault/key")), "s.e")


def test_unread_settings_name_what_was_not_read(tmp_path: Path) -> None:
    """References stay as they are, are no secrets, and are not redacted; what needs a form says that it cannot be checked."""
    file = file_of(tmp_path, kafka={**KAFKA, "sasl_password": "kv://Shop-vault/kafka"})
    settings = load_unread(file)
    assert settings.unread == {"kafka.sasl_password": SecretReference("shop-vault", "kafka")}
    assert settings.notes == ()
    assert redact("kv://Shop-vault/kafka") == "kv://Shop-vault/kafka"
    with pytest.raises(ConfigError, match=r"log\.level: .*can only be checked with its value"):
        load_unread(file_of(tmp_path, log={"level": "kv://shop-vault/level"}))
