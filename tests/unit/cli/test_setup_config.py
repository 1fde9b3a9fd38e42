"""`blobtide setup-config`: a settings file from options, from answers, or from the file of an older system."""

import os
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from libs.common.errors import ConfigError
from libs.common.settings import load_settings
from services.cli.config import setup
from services.cli.main import blobtide

OLDER = {
    "subscriptions": {
        "cp2": {
            "name": "Commerce Cloud",
            "environments": {
                "P1": {"name": "Production", "storage_account": {"account_name": "prodlogs", "access_key": "c2VjcmV0"}},
                "D1": {"storage_account": {"account_name": "devlogs", "access_key": "b3RoZXI="}},
            },
        }
    }
}
FLOWS = ("--subscription", "shop", "--environment", "prod", "--account-name", "shoplogs", "--contents", "vnet-flow-logs")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run(*words: object, answers: str = "") -> Result:
    """Run `blobtide setup-config`."""
    return CliRunner().invoke(blobtide, ["setup-config", *map(str, words)], input=answers)


def written(home: Path) -> Path:
    """Return where the settings are by default."""
    return home / ".blobtide" / "config.yaml"


def older_file(home: Path, content: object = OLDER, mode: int = 0o600) -> Path:
    """Write settings of the older system to their usual place."""
    file = home / ".commerce-logs-pipeline" / "config.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    file.chmod(mode)
    return file


def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let standard input count as a terminal."""
    monkeypatch.setattr(setup, "_is_terminal", lambda: True)


def test_options_become_a_settings_file_that_works_and_that_others_cannot_read(home: Path) -> None:
    """Neither the file nor its directory is open to others, whatever the umask."""
    key = home / "key.txt"
    key.write_text("c2VjcmV0")
    before = os.umask(0)
    try:
        assert run(*FLOWS, "--account-key-file", key).exit_code == 0
    finally:
        os.umask(before)
    file = written(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    environment = load_settings(file).subscriptions["shop"].environments["prod"]
    assert environment.storage.account_key_file == key
    assert environment.sources[0].container == "insights-logs-flowlogflowevent"


def test_the_file_of_the_older_system_is_converted(home: Path) -> None:
    """All its environments are taken, with the selectors that it had built in."""
    result = run("--from", older_file(home))
    assert result.exit_code == 0
    assert "cp2.P1, cp2.D1" in result.output
    environments = load_settings(written(home)).subscriptions["cp2"].environments
    assert {name: one.storage.account_name for name, one in environments.items()} == {"P1": "prodlogs", "D1": "devlogs"}
    source = environments["P1"].sources[0]
    assert source.container == "commerce-logs-separated"
    assert [selector.name for selector in source.selectors][:2] == ["apache-proxy", "api"]


def test_a_file_of_the_older_system_that_others_can_read_is_warned_of(home: Path) -> None:
    """The keys in it are no secrets any more."""
    assert "others may read it" in run("--from", older_file(home, mode=0o644)).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "there is no group subscriptions"),
        ({"subscriptions": {}}, "there are no environments in it"),
        ({"subscriptions": {"a": {"environments": {"b": {}}}}}, "no group subscriptions.a.environments.b.storage_account"),
        (
            {"subscriptions": {"a": {"environments": {"b": {"storage_account": {"account_name": "x"}}}}}},
            "subscriptions.a.environments.b.storage_account has no access_key",
        ),
        ("text", "there is no group subscriptions"),
    ],
)
def test_what_an_older_file_lacks_is_named(home: Path, content: object, message: str) -> None:
    """The file is named, too, and nothing is written."""
    file = older_file(home, content)
    result = run("--from", file)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{file}: ")
    assert message in str(result.exception)
    assert not written(home).exists()


def test_a_second_environment_joins_the_first_and_everything_else_stays(home: Path) -> None:
    """The previous file is kept, for its owner only."""
    file = written(home)
    file.parent.mkdir()
    file.write_text("kafka: {bootstrap_servers: 'broker:9092'}\n")
    assert run(*FLOWS, "--identity").exit_code == 0
    assert run("--from", older_file(home)).exit_code == 0
    settings = load_settings(file)
    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert sorted(settings.subscriptions) == ["cp2", "shop"]
    kept = file.with_name("config.yaml.bak")
    assert sorted(yaml.safe_load(kept.read_text())["subscriptions"]) == ["shop"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_an_environment_that_is_there_is_only_replaced_on_request(home: Path) -> None:
    """A slip does not overwrite a key."""
    assert run(*FLOWS, "--identity").exit_code == 0
    again = run(*FLOWS, "--identity", "--container", "other")
    assert "environment shop.prod is there already" in str(again.exception)
    assert run(*FLOWS, "--identity", "--container", "other", "--replace").exit_code == 0
    assert load_settings(written(home)).subscriptions["shop"].environments["prod"].sources[0].container == "other"


def test_invalid_settings_are_named_and_the_old_file_remains(home: Path) -> None:
    """A name that no storage account can have is refused by its setting."""
    assert run(*FLOWS, "--identity").exit_code == 0
    before = written(home).read_bytes()
    result = run(*FLOWS, "--identity", "--replace", "--account-name", "prod_account")
    assert "subscriptions.shop.environments.prod.storage.account_name" in str(result.exception)
    assert str(written(home)) in str(result.exception)
    assert written(home).read_bytes() == before
    assert sorted(file.name for file in written(home).parent.iterdir()) == ["config.yaml"]


def test_a_dry_run_shows_what_would_be_added_without_secrets(home: Path) -> None:
    """Nothing is written."""
    result = run("--from", older_file(home), "--dry-run")
    assert "account_name: prodlogs" in result.stdout
    assert "c2VjcmV0" not in result.stdout
    assert not written(home).exists()


def test_what_is_missing_is_asked_for_at_a_terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that is typed is not shown."""
    at_a_terminal(monkeypatch)
    result = run(answers="shop\nprod\nshoplogs\nkey\nc2VjcmV0\nnsg-flow-logs\n")
    assert result.exit_code == 0, result.output
    assert "c2VjcmV0" not in result.output
    environment = load_settings(written(home)).subscriptions["shop"].environments["prod"]
    assert environment.storage.account_key is not None
    assert environment.storage.account_key.get_secret_value() == "c2VjcmV0"
    assert environment.sources[0].container == "insights-logs-networksecuritygroupflowevent"


def test_an_older_file_is_offered_for_conversion_at_a_terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is enough to say yes."""
    older_file(home)
    at_a_terminal(monkeypatch)
    assert run(answers="\n").exit_code == 0
    assert "cp2" in load_settings(written(home)).subscriptions


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--subscription is missing"),
        (FLOWS, "say how to sign in"),
        ((*FLOWS, "--identity", "--account-key-file", "k"), "give only one way to sign in"),
        (("--from", "x.yaml", "--subscription", "s"), "--from takes the environments as they are"),
    ],
)
def test_without_a_terminal_the_missing_option_is_named(home: Path, words: tuple[str, ...], message: str) -> None:
    """Nothing waits for an answer that cannot come."""
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert not written(home).exists()
