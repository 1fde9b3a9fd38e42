"""`blobtide config check` without a server: what it finds, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError
from libs.common.settings import Settings, load_settings
from services.cli.config.checks import IDLE, Check, CheckResult, builds, connections, needed_services, tried
from tests.unit.cli.test_commands import run

SASL = {"security_protocol": "SASL_SSL", "sasl_username": "me"}
STORAGE = {"account_name": "logs", "account_key": "a2V5"}


def settings(tmp_path: Path, **groups: Any) -> Settings:
    """Return the settings of a file with these groups; YAML reads JSON."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"subscriptions": subscription(e=STORAGE), **groups}))
    return load_settings(file)


def subscription(**storages: object) -> object:
    """Return one subscription, an environment a storage."""
    sources = [{"container": "logs"}, {"container": "more"}]
    return {"s": {"environments": {name: {"storage": storage, "sources": sources} for name, storage in storages.items()}}}


def verdicts(checked: Settings) -> dict[str, CheckResult]:
    """Make the checks that need no server."""
    return {verdict.what: verdict for verdict in tried(builds(checked))}


def problems(checked: Settings) -> dict[str, str]:
    """Return what is wrong."""
    return {what: str(verdict.error) for what, verdict in verdicts(checked).items() if verdict.error is not None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**SASL, "sasl_password_file": "/none"}, "cannot read kafka.sasl_password_file /none: No such file or directory"),
        ({"librdkafka": {"nope": "1"}}, 'No such configuration property: "nope"'),
        ({"librdkafka": {"partitioner": "random"}}, "kafka.librdkafka.partitioner is set by blobtide"),
        ({"librdkafka": {"transactional.id": "x"}}, "kafka.librdkafka.transactional.id is set by blobtide"),
        ({"librdkafka": {"auto.offset.reset": "latest"}}, "kafka.librdkafka.auto.offset.reset is set by blobtide"),
        ({"security_protocol": "SSL", "ssl_ca_location": "/none"}, "ssl.ca.location failed"),
    ],
)
def test_kafka_clients_that_cannot_be_made_are_found(tmp_path: Path, options: object, message: str) -> None:
    """A secret or certificate that is not there, and an option that some client does not take, fail the clients' check."""
    found = problems(settings(tmp_path, kafka=options))
    assert list(found) == ["Kafka clients"]
    assert message in found["Kafka clients"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "redis", "username": "me", "password_file": "/none"}, "cannot read password_file /none"),
        ({"kind": "redis", "url": "rediss://h:1", "ca_file": "/none"}, "ca_file /none does not exist"),
        ({"kind": "elasticsearch", "username": "me", "password_file": "/none"}, "cannot read password_file /none"),
        ({"kind": "elasticsearch", "api_key_file": "/none"}, "cannot read api_key_file /none"),
        ({"kind": "elasticsearch", "ca_file": "/none"}, "ca_file /none does not exist"),
    ],
)
def test_secrets_and_authorities_of_sinks_are_read(tmp_path: Path, options: object, message: str) -> None:
    """A file that a sink would read when it opens is looked at, without its server."""
    found = problems(settings(tmp_path, sinks={"mine": options}))
    assert list(found) == ["sink mine"]
    assert message in found["sink mine"]


def test_a_problem_of_storage_is_said_once_and_for_every_environment(tmp_path: Path) -> None:
    """Each environment has a check of its own; the services that fail for the same reason do not repeat it."""
    broken = {"account_name": "logs", "account_key_file": "/none"}
    found = verdicts(settings(tmp_path, subscriptions=subscription(good=STORAGE, one=broken, two=broken)))
    failed = {what: verdict.is_new for what, verdict in found.items() if verdict.error is not None}
    assert failed == {"storage of s.one": True, "storage of s.two": True, "blob-monitor": False, "ingest": False}


def test_without_anything_to_read_it_is_said_who_starts_and_who_does_not(tmp_path: Path) -> None:
    """The monitor starts and finds nothing; ingest refuses."""
    found = verdicts(settings(tmp_path, subscriptions={}))
    assert found["blob-monitor"] == CheckResult("blob-monitor", remark=IDLE)
    assert "nothing to read" in str(found["ingest"].error)


def test_good_settings_have_no_problems(tmp_path: Path) -> None:
    """Everything can be built without a server, and a monitor with something to do has no remark."""
    found = verdicts(settings(tmp_path, sinks={"stdout": {}, "redis": {}, "elasticsearch": {}}))
    assert [verdict for verdict in found.values() if verdict.error or verdict.remark] == []


def test_a_recorder_alone_needs_nothing_that_others_need(tmp_path: Path) -> None:
    """Neither services that read blobs nor an unconfigured collector are built, whose extras need not be installed then."""
    sources = [{"name": "links", "url": "http://127.0.0.1:9"}]
    alone = settings(tmp_path, subscriptions={}, recorder={"sources": sources})
    assert needed_services(alone) == ["recorder"]
    assert problems(alone) == {}
    with_collector = settings(tmp_path, subscriptions={}, recorder={"sources": sources}, collector={"concurrency": 2})
    assert needed_services(with_collector) == ["collector", "recorder"]
    assert needed_services(settings(tmp_path)) == ["blob-monitor", "ingest", "parser", "collector"]
    summing = settings(tmp_path, aggregator={"aggregations": [{"preset": "network"}]})
    assert needed_services(summing) == ["blob-monitor", "ingest", "parser", "aggregator", "collector"]


def test_servers_are_not_asked_with_what_could_not_be_built(tmp_path: Path) -> None:
    """The connection of a client, an account or a sink whose own check has failed is not tried."""
    broken = settings(
        tmp_path,
        kafka={"librdkafka": {"nope": "1"}},
        subscriptions=subscription(e={"account_name": "logs", "account_key_file": "/none"}),
        sinks={"redis": {"username": "me", "password_file": "/none"}},
    )
    assert [verdict.what for verdict in tried([*builds(broken), *connections(broken)])] == [
        check.what for check in builds(broken)
    ]


def test_every_check_is_made_and_a_need_that_works_is_no_hindrance() -> None:
    """A failure leaves out only what needs it."""

    def fail() -> None:
        raise ConfigError("wrong")

    checks = [
        Check("a", fail),
        Check("b", str),
        Check("c", str, needs="a"),
        Check("d", lambda: "well", needs="b"),
        Check("e", str, needs="c"),
    ]
    assert [(verdict.what, verdict.remark) for verdict in tried(checks)] == [("a", ""), ("b", ""), ("d", "well")]


def test_the_check_says_which_file_was_read(tmp_path: Path) -> None:
    """The first line names the file, or says that there is none; problems end it with the exit code of wrong settings."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"subscriptions": subscription(e=STORAGE)}))
    file.chmod(0o600)
    done = run("config", "check", "--config", str(file))
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, f"ok  settings: {file}", "")
    assert f"ok  settings: {file}" in run("config", "check", BLOBTIDE_CONFIG=str(file)).stdout
    broken = tmp_path / "broken.yaml"
    broken.write_text(file.read_text().replace("a2V5", "?"))
    broken.chmod(0o600)
    failed = run("config", "check", "--config", str(broken))
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[1:] == ["!!  blob-monitor: same reason as above", "!!  ingest: same reason as above"]
    assert "no file" in run("config", "check").stdout.splitlines()[0]
