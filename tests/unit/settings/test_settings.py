"""Settings: file, environment, refusals, masking."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.settings import load_settings, masked
from libs.common.settings.process import LogLevel
from libs.common.settings.storage import Source

GOOD = """
kafka:
  bootstrap_servers: broker:9092
  security_protocol: SASL_SSL
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


def environment(inside: str) -> str:
    """Return settings with one environment that has a storage and, `inside`, what else it has."""
    return f"subscriptions: {{a: {{environments: {{e: {{storage: {{account_name: logs}}, {inside}}}}}}}}}"


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
        ("monitor: {start_policy: from}", "start_from must be used together"),
        ("monitor: {start_policy: start_over}", "start_over requires replay_id"),
        ("monitor: {interval_seconds: .inf}", "monitor.interval_seconds: Input should be a finite number"),
        ("monitor: {closing_timeout_minutes: .inf}", "monitor.closing_timeout_minutes"),
        ("monitor: {closing_timeout_minutes: 1.0e+15}", "monitor.closing_timeout_minutes"),
        ("monitor: {minimum_age_seconds: 1.0e+15}", "monitor.minimum_age_seconds"),
        ("monitor: {forget_days: 1000000000000}", "monitor.forget_days"),
        ("monitor: {date_range: {specific_date: 9999-12-31}}", "monitor.date_range.specific_date"),
        ("monitor: {date_range: {specific_date: 0001-01-01}}", "monitor.date_range.specific_date"),
        ("monitor: {timezone: Mars/Olympus}", "unknown time zone"),
        ("monitor: {date_range: {days_back: 1, specific_date: 2026-01-01}}", "not both"),
        ("kafka: {librdkafka: {enable.auto.commit: 'true'}}", "enable.auto.commit affects delivery guarantees"),
        ("kafka: {librdkafka: {bootstrap.servers: 'other:9092'}}", "has its own setting"),
        ("subscriptions: {a/b: {environments: {}}}", "subscriptions"),
        ("subscriptions: {a: {environments: {e: {storage: {}, sources: [{container: c}]}}}}", "give connection_string"),
        ("kafka: [", "line 1, column 9: not valid YAML"),
        ("- a", "expected groups"),
        ("sinks: {stdout: {}}\nsinks: {file: {}}", "line 2, column 1: not valid YAML: duplicate name sinks"),
        ("kafka:\n  compression: lz4\n  'compression': none", "line 3, column 3: not valid YAML: duplicate name compression"),
        ("monitor: {start_policy: from, start_from: 2026-02-30T00:00:00Z}", "column 43: not valid YAML: not a valid timestamp"),
        ("kafka: !!bool maybe", "not a valid bool"),
        ("kafka: \0", "unacceptable character"),
        ("kafka: {compression: lz44}", "kafka.compression"),
        ("kafka: {sasl_mechanism: XPLAINX}", "kafka.sasl_mechanism"),
        ("kafka: {group_prefix: my group!}", "kafka.group_prefix"),
        ("kafka: {compression: lz44}", "should be 'none', 'lz4', 'zstd', 'snappy' or 'gzip'"),
        ("kafka: {sasl_mechanism: plain}", "should be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or 'OAUTHBEARER'"),
        ("kafka: {librdkafka: {linger.ms: 5}}", "kafka.librdkafka.linger.ms: give text (quote values that look like a number"),
        ("log: {level: loud}", "log.level: Input should be 'trace', 'debug', 'info', 'warning' or 'error'"),
        ("http: []", "http: give settings below it"),
        ("sinks: {file: parquet}", "sinks.file: give settings below it"),
        (environment("sources: {container: logs}"), "environments.e.sources: give a list"),
        (environment("sources: [{container: logs, include: '**'}]"), "sources.0.include: give a list"),
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


@pytest.mark.parametrize("container", ["$web", "Insights_Logs", "logs ", "logs\n", "", "ab", "a--b", "-ab"])
def test_a_container_that_cannot_be_is_refused(container: str) -> None:
    """A name that storage does not allow is named at once, rather than asked for again and again."""
    with pytest.raises(ValidationError, match="container"):
        Source(container=container)


@pytest.mark.parametrize("container", ["insights-logs-flowlogflowevent", "abc", "a1-b2", "$logs", "$root"])
def test_a_container_is_named_as_storage_allows(container: str) -> None:
    """What passes as a setting also passes in the id of a blob."""
    assert BlobId.parse(f"sub.dev/{Source(container=container).container}/x").container == container


@pytest.mark.parametrize(
    ("inside", "problem"),
    [
        ("sources: [{container: logs, includ: [a]}]", "sources.0.includ: unknown setting; did you mean include?"),
        ("source: [{container: logs}]", "source: unknown setting; did you mean sources?"),
        ("sources: [{container: logs}], enable: false", "enable: unknown setting; did you mean enabled?"),
        ("sources: []", "sources: Tuple should have at least 1 item after validation, not 0"),
        ("interval_seconds: 1", "sources: missing"),
    ],
)
def test_one_mistake_in_an_environment_is_one_problem(tmp_path: Path, inside: str, problem: str) -> None:
    """What stands in lists and named groups is known as well, and what only follows from a mistake is not said."""
    path = tmp_path / "config.yaml"
    path.write_text(environment(inside))
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert str(caught.value) == f"in {path} or BLOBTIDE_... variables: subscriptions.a.environments.e.{problem}"


@pytest.mark.parametrize("level", ["warning", "WARNING", "Warning"])
def test_a_level_is_taken_in_any_case(tmp_path: Path, level: str) -> None:
    """Levels are often written in capitals."""
    path = tmp_path / "config.yaml"
    path.write_text(f"log: {{level: {level}}}")
    assert load_settings(path).log.level is LogLevel.WARNING


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    """The path and the reason are in the message."""
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_an_unknown_variable_with_our_prefix_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt top-level variable is not silently ignored."""
    monkeypatch.setenv("BLOBTIDE_KAFAK__COMPRESSION", "zstd")
    with pytest.raises(ConfigError, match="unknown variable BLOBTIDE_KAFAK__COMPRESSION; did you mean BLOBTIDE_KAFKA"):
        load_settings()


def test_a_misspelt_variable_in_small_letters_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables count in any case, so the unknown ones do too."""
    monkeypatch.setenv("blobtide_kafak__compression", "zstd")
    with pytest.raises(ConfigError, match="unknown variable blobtide_kafak__compression; did you mean BLOBTIDE_KAFKA"):
        load_settings()


def test_lists_and_maps_of_a_sink_are_json_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable gives a sink a list, a map and a text; a text that only looks like JSON stays a text."""
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__HOSTS", '["http://a:1", "http://b:1"]')
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__BATCH", '{"messages": 3}')
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__KIND", "elasticsearch")
    monkeypatch.setenv("BLOBTIDE_SINKS__FILE__TEMPLATE", "{shard}-{sequence}")
    assert load_settings().sinks == {
        "search": {"hosts": ["http://a:1", "http://b:1"], "batch": {"messages": 3}, "kind": "elasticsearch"},
        "file": {"template": "{shard}-{sequence}"},
    }


def test_a_name_may_stand_in_several_groups_and_over_what_is_merged_in(tmp_path: Path) -> None:
    """Only a name that stands twice in one group is refused; a merged group may be changed in part."""
    path = tmp_path / "config.yaml"
    path.write_text("sinks:\n  a: &a {kind: file, directory: /a}\n  b: {<<: *a, directory: /b}\n")
    assert load_settings(path).sinks["b"] == {"kind": "file", "directory": "/b"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kafka: {librdkafka: {ssl.key.password: hunter2, linger.ms: '5'}}", "linger.ms': '5'"),
        ("kafka: {librdkafka: {sasl.jaas.config: hunter2}}", "librdkafka"),
        (GOOD.replace("account_name: logs,", "account_url: 'https://logs/?sv=1&sig=hunter2',"), "https://logs/?*"),
        ("sinks: {elasticsearch: {hosts: ['https://u:hunter2@h:9200', 'https://i:9200']}}", "https://i:9200"),
        ("sinks: {new: {nested: [{api_key: hunter2}], url: 'amqp://u:p@hunter2@mq/v', directory: ~/flows}}", "@mq/v"),
    ],
)
def test_secrets_in_free_options_and_urls_are_not_shown(tmp_path: Path, text: str, shown: str) -> None:
    """Whatever is a secret by its name, and user and query of any URL, are asterisks; the rest can be read."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    display = str(masked(load_settings(path)))
    assert "hunter2" not in display
    assert shown in display


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
