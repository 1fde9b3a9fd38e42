"""Settings: file, environment, refusals, masking."""

from pathlib import Path

import pytest

from libs.common.errors import ConfigError
from libs.common.settings import load_settings, masked

GOOD = """
kafka:
  bootstrap_servers: broker:9092
  sasl_password: hunter2
subscriptions:
  prod:
    environments:
      eu:
        storage: {account_name: logs, account_key: c2VjcmV0}
        sources: [{container: insights-logs-flowlogflowevent}]
sinks:
  redis: {url: "redis://user:hunter2@cache:6379/0", password: hunter2, prefix: flows}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write the good settings."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return path


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable overrides one setting of a group and leaves the others of the group as the file has them."""
    monkeypatch.setenv("BLOBTIDE_KAFKA__COMPRESSION", "zstd")
    settings = load_settings(file)
    assert (settings.kafka.compression, settings.kafka.bootstrap_servers) == ("zstd", "broker:9092")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka: {bootstrap_server: x}", "kafka.bootstrap_server: unknown setting; did you mean bootstrap_servers"),
        ("kafak: {}", "kafak: unknown setting; did you mean kafka"),
        ("monitor: {interval_seconds: 0}", "monitor.interval_seconds"),
        ("monitor: {start_policy: from}", "start_from go together"),
        ("monitor: {timezone: Mars/Olympus}", "unknown time zone"),
        ("monitor: {date_range: {days_back: 1, specific_date: 2026-01-01}}", "not both"),
        ("kafka: {librdkafka: {enable.auto.commit: 'true'}}", "enable.auto.commit decides over delivery"),
        ("kafka: {librdkafka: {bootstrap.servers: 'other:9092'}}", "has a setting of its own"),
        ("subscriptions: {a/b: {environments: {}}}", "subscriptions"),
        ("subscriptions: {a: {environments: {e: {storage: {}, sources: [{container: c}]}}}}", "give connection_string"),
        ("kafka: [", "line 1, column 9: not valid YAML"),
        ("- a", "expected groups"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    """Every kind of mistake in the file gives one line that names the setting."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    """The path and the reason are in the message."""
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_an_unknown_variable_with_our_prefix_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt top-level variable is not silently ignored."""
    monkeypatch.setenv("BLOBTIDE_KAFAK__COMPRESSION", "zstd")
    with pytest.raises(ConfigError, match="unknown variable BLOBTIDE_KAFAK__COMPRESSION; did you mean BLOBTIDE_KAFKA"):
        load_settings()


def test_no_secret_is_shown_or_repeated_in_an_error(file: Path, tmp_path: Path) -> None:
    """Neither the display of settings nor a complaint about them holds a credential."""
    shown = str(masked(load_settings(file)))
    assert "hunter2" not in shown
    assert "c2VjcmV0" not in shown
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("account_key", "sas_token: hunter2, account_key"))
    with pytest.raises(ConfigError) as caught:
        load_settings(bad)
    assert "hunter2" not in str(caught.value)
    assert "one way to sign in" in str(caught.value)
