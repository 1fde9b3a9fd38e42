"""A broker with TLS, logins and an authorizer that is on: each service does its work with its rights, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    NewTopic,
)

from libs.common.errors import BlobtideError, ServerUnreachable
from libs.common.kafka.client.configs import check_reachable, make_admin
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.kafka.readers.follow import Follower, Newest
from libs.common.kafka.records import Outbound, TopicPartition
from libs.common.kafka.topics.acls import On, Operation, Right
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.kafka.writing import write
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import encode_rows
from libs.common.settings import load_settings
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.local.azurite import LocalAzurite
from libs.local.ports import LOOPBACK
from services.cli.broker.rights import rights_of
from services.cli.main import blobtide
from services.cli.up.supervisor import Program
from tests.answer_server import Reply, answering
from tests.estates import estate, generating, plan_of, wait_for_all
from tests.fixtures.servers import serving
from tests.flows import rows, table
from tests.pipeline import Pipeline, Plan, assert_same_rows_in_order, read_rows
from tests.secured_attempts import SECONDS, TOPICS, creating, granted, joining, opening, reading, writing
from tests.secured_kafka import AUDIENCE, USERS, SecuredKafka, access_script
from tests.token_server import Issuer, serving_tokens

pytestmark = pytest.mark.timeout(300)

LETTER = DeadLetter(stage="sink.file", code=ErrorCode.BAD_MESSAGE, reason="bad", data=b"x", key=b"k")
ISSUER = Issuer(AUDIENCE, {"tail": "tail's secret", "nobody": "nobody's secret"})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Return a broker with users, rights and topics as the compose overlay makes them."""
    directory = tmp_path_factory.mktemp("secured")
    broker = SecuredKafka(directory / "kafka", ISSUER.write_keys(directory / "keys.json"))
    with serving(broker), pytest.MonkeyPatch.context() as patch:
        config = broker.data_dir / "config.yaml"
        config.write_text("sinks: {file: {directory: /tmp/never}}")
        for name, value in {**broker.administrator(), "BLOBTIDE_CONFIG": str(config)}.items():
            patch.setenv(name, value)
        for user in USERS[-1:]:
            make_user(broker, user)
        assert access_script().grant(broker.secrets / "access", USERS[:-1]) == 0
        patch.undo()
        assert command(broker, "topics", "topics", "apply").exit_code == 0
        yield broker


def make_user(broker: SecuredKafka, user: str) -> None:
    """Let `user` sign in, without any right."""
    access_script().accept(broker.secrets / "access", [user])


def variables(broker: SecuredKafka, user: str) -> dict[str, str]:
    """Return the variables with which a process signs in as `user`."""
    return {f"BLOBTIDE_KAFKA__{name.upper()}": value for name, value in broker.connection(user).items()}


def command(broker: SecuredKafka, user: str, *words: str) -> Result:
    """Run a command of blobtide as `user`."""
    return CliRunner(env=variables(broker, user)).invoke(blobtide, words)


@dataclass(frozen=True, slots=True)
class SecuredPlan(Plan):
    """A pipeline whose processes sign in, each as a user of its own."""

    def settings(self) -> dict[str, Any]:
        """Return the settings file's content, without what the processes have as variables."""
        settings = Plan.settings(self)
        del settings["kafka"]["librdkafka"], settings["kafka"]["bootstrap_servers"]
        return settings


class SecuredPipeline(Pipeline):
    """Each process as the user of its name."""

    def __init__(self, plan: Plan, broker: SecuredKafka) -> None:
        self._broker = broker
        super().__init__(plan)

    def _program(self, words: str, ordinal: int, file: Path) -> Program:
        program = super()._program(words, ordinal, file)
        return replace(program, env={**program.env, **variables(self._broker, words.replace(" ", "-"))})


def test_everything_arrives_with_the_least_rights(broker: SecuredKafka, own_azurite: LocalAzurite, tmp_path: Path) -> None:
    """From a blob to rows in files, each service signs in over TLS as a user that may do what the table says and no more."""
    plain = plan_of(broker.settings("nobody"), TOPICS, own_azurite, tmp_path)
    plan = SecuredPlan(**{name: getattr(plain, name) for name in Plan.__dataclass_fields__})
    with (
        generating(own_azurite, estate(2, 20, seed=17), speed=0) as played,
        SecuredPipeline(plan, broker).running() as pipeline,
    ):
        wait_for_all(pipeline, played)
        assert pipeline.restarts() == 0
    assert_same_rows_in_order(read_rows(plan.rows_directory), played.truth())
    for log in tmp_path.glob("*.log"):
        assert "authorization failed" not in log.read_text().lower()


@pytest.mark.parametrize(("user", "words"), [("quarantine", ["quarantine", "list"]), ("tail", ["tail", "flows", "errors"])])
def test_people_do_their_work_with_the_least_rights(broker: SecuredKafka, user: str, words: list[str]) -> None:
    """Commands that only look need no more than the table says."""
    done = command(broker, user, *words)
    assert done.exit_code == 0, done.output


# By user: topics that may be read, and those that may be written.
MAY = {
    "blob-monitor": ({TOPICS.blob_state}, {TOPICS.blob_state, TOPICS.blobs}),
    "ingest": (
        {TOPICS.blobs, TOPICS.checkpoints},
        {TOPICS.raw_flow_logs, TOPICS.raw_application_logs, TOPICS.raw_proxy_logs}
        | {TOPICS.checkpoints, TOPICS.completions, TOPICS.errors},
    ),
    "parser": (
        {TOPICS.raw_flow_logs, TOPICS.raw_application_logs, TOPICS.raw_proxy_logs, TOPICS.quarantine},
        {TOPICS.flows, TOPICS.application, TOPICS.http, TOPICS.proxy, TOPICS.spans, TOPICS.quarantine, TOPICS.errors},
    ),
    "aggregator": ({TOPICS.flows}, {TOPICS.rollups, TOPICS.errors}),
    "collector": (
        {TOPICS.collection_requests, TOPICS.collection_state, TOPICS.resources},
        {TOPICS.collection_results, TOPICS.collection_state, TOPICS.resources, TOPICS.resource_changes, TOPICS.errors},
    ),
    "recorder": ({TOPICS.recorder_state}, {TOPICS.recorder_state, TOPICS.snapshots, TOPICS.errors}),
    "sink-file": ({TOPICS.flows}, {TOPICS.errors}),
    "tail": (set(TOPICS.model_dump().values()), set()),
    "collect": (set(), {TOPICS.collection_requests}),
    "quarantine": ({TOPICS.blob_state, TOPICS.checkpoints, TOPICS.quarantine}, {TOPICS.blobs, TOPICS.quarantine}),
    "topics": (set(), set()),
    "nobody": (set(), set()),
}


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_read_and_write_its_topics_only(broker: SecuredKafka, user: str) -> None:
    """What Kafka itself says that each user may do with each topic is what its service does, and no more."""
    admin = make_admin(broker.settings(user))
    names = list(TOPICS.model_dump().values())
    answers = admin.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=SECONDS)
    may: dict[AclOperation, set[str]] = {}
    for name, answer in answers.items():
        refused = answer.exception(SECONDS)
        for operation in () if refused else answer.result().authorized_operations:
            may.setdefault(operation, set()).add(name)
    reads, writes = MAY[user]
    assert (may.get(AclOperation.READ, set()), may.get(AclOperation.WRITE, set())) == (reads, writes)
    administers = {operation for operation in may if operation not in {AclOperation.READ, AclOperation.WRITE}}
    own = {AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS}
    assert administers <= own | (
        {AclOperation.CREATE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS} if user == "topics" else set()
    )


@pytest.mark.parametrize(
    ("user", "attempt", "what", "code"),
    [
        ("sink-file", reading, TOPICS.raw_flow_logs, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        ("parser", writing, TOPICS.checkpoints, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        ("ingest", writing, TOPICS.flows, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        ("parser", opening, "blobtide.ingest.0", KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        ("sink-file", opening, "blobtide.sink.file.0", KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        ("sink-file", joining, "blobtide.sink.redis", KafkaError.GROUP_AUTHORIZATION_FAILED),
        *((user, creating, "Extracted.Other", KafkaError.TOPIC_AUTHORIZATION_FAILED) for user in MAY),
    ],
)
def test_kafka_refuses_what_is_not_a_users_work(
    broker: SecuredKafka, user: str, attempt: Callable[[SecuredKafka, str, str], None], what: str, code: int
) -> None:
    """Other topics, other groups, other transactional ids and new topics are refused."""
    with pytest.raises(KafkaException) as refused:
        attempt(broker, user, what)
    assert refused.value.args[0].code() == code


KAFKA_SINKS: dict[str, dict[str, Any]] = {
    "out": {"kind": "kafka", "topic": "Out.Rows"},
    "plain": {"kind": "kafka", "topic": "Out.Rows", "delivery": "idempotent"},
    "letters": {"kind": "kafka", "topic": "Out.Letters", "rows": "dead_letters"},
}


@pytest.fixture(scope="module")
def destinations(broker: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the topics of sinks that write to Kafka; return a settings file with these sinks and one that does not."""
    config = tmp_path_factory.mktemp("sinks") / "config.yaml"
    sinks = {"file": {"directory": str(config.parent / "flows")}, **KAFKA_SINKS}
    config.write_text(yaml.safe_dump({"sinks": sinks, "http": {"port": 0}}))
    admin = make_admin(broker.as_administrator())
    for future in admin.create_topics([NewTopic(name, 2) for name in ("Out.Rows", "Out.Letters")]).values():
        future.result(SECONDS)
    done = CliRunner(env=broker.administrator()).invoke(blobtide, ["sink-setup", "out", "--config", str(config)])
    assert done.exit_code == 0, done.output
    return config


def give_work(broker: SecuredKafka) -> None:
    """Write a flow batch, and one that is none, which becomes a dead letter; and positions, so that there are some to read."""
    (batch,) = table(rows()).combine_chunks().to_batches()
    batches = [Outbound(TOPICS.flows, value, b"k") for value in (encode_rows(FLOWS, batch), b"nonsense")]
    write(broker.as_administrator(), batches + [Outbound("Sinks.Positions", b"", b"other", partition=n) for n in range(12)])


@pytest.mark.parametrize(("name", "topic"), [(name, options["topic"]) for name, options in KAFKA_SINKS.items()])
def test_sinks_that_write_to_kafka_do_so_with_the_least_rights(
    broker: SecuredKafka, destinations: Path, name: str, topic: str, tmp_path: Path
) -> None:
    """Rows, positions and dead letters of a kafka sink, and of one of dead letters, need what `acls print` lists for it."""
    seen = Follower(broker.as_administrator(), (topic,), Newest(0))
    seen.open()
    give_work(broker)
    if name == "letters":
        DeadLetterWriter(broker.as_administrator(), TOPICS.errors).write([LETTER])
    argv = [sys.executable, "-m", "services.cli.main", "run", "sink", name, "--config", str(destinations)]
    rights = rights_of(load_settings(destinations), [f"sink-{name}"], {f"sink-{name}": "User:nobody"})
    with granted(broker, rights), (tmp_path / "log").open("wb") as log:
        with subprocess.Popen(argv, env={**os.environ, **variables(broker, "nobody")}, stdout=log, stderr=log) as process:
            deadline = time.monotonic() + 3 * SECONDS
            while not seen.poll(0.2):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            process.terminate()
        assert process.returncode == 0
    seen.close()
    said = (tmp_path / "log").read_text().lower()
    assert "denied" not in said
    assert "authorization failed" not in said


def test_a_recorder_does_its_work_with_the_least_rights(broker: SecuredKafka, tmp_path: Path) -> None:
    """Snapshots and dead letters of its sources need what the table lists for it."""
    seen = Follower(broker.as_administrator(), (TOPICS.snapshots, TOPICS.errors), Newest(0))
    seen.open()
    config, log = tmp_path / "config.yaml", tmp_path / "log"
    with answering() as server, log.open("wb") as said:
        server.say("/good", Reply(b"{}"))
        server.say("/bad", Reply(b"<html>"))
        sources = [{"name": name, "url": server.url, "path": f"/{name}"} for name in ("good", "bad")]
        config.write_text(yaml.safe_dump({"recorder": {"sources": sources}, "http": {"port": 0}}))
        argv = [sys.executable, "-m", "services.cli.main", "run", "recorder", "--config", str(config)]
        with subprocess.Popen(argv, env={**os.environ, **variables(broker, "recorder")}, stdout=said, stderr=said) as process:
            deadline, found = time.monotonic() + 3 * SECONDS, set[str]()
            while found < {TOPICS.snapshots, TOPICS.errors}:
                found |= {record.topic for record in seen.poll(0.2)}
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            process.terminate()
        assert process.returncode == 0
    seen.close()
    assert "authorization failed" not in log.read_text().lower()


@pytest.mark.parametrize(
    ("service", "right", "said"),
    [
        ("parser", Right("User:nobody", Operation.READ, On.TOPIC, TOPICS.raw_flow_logs), TOPICS.raw_flow_logs),
        ("parser", Right("User:nobody", Operation.WRITE, On.TRANSACTIONAL_IDS, "blobtide.parser."), "blobtide.parser.0"),
        ("blob-monitor", Right("User:nobody", Operation.READ, On.GROUP, "blobtide.blob-monitor"), "blobtide.blob-monitor"),
        ("sink-file", Right("User:nobody", Operation.READ, On.GROUP, "blobtide.sink.file"), "blobtide.sink.file"),
        ("sink-file", Right("User:nobody", Operation.WRITE, On.TOPIC, TOPICS.errors), TOPICS.errors),
        ("sink-out", Right("User:nobody", Operation.READ, On.TOPIC, "Sinks.Positions"), "Sinks.Positions"),
        ("sink-out", Right("User:nobody", Operation.WRITE, On.TRANSACTIONAL_IDS, "blobtide.sink.out."), "blobtide.sink.out."),
        ("sink-out", Right("User:nobody", Operation.WRITE, On.TOPIC, "Out.Rows"), "Out.Rows"),
        ("sink-plain", Right("User:nobody", Operation.WRITE, On.TOPIC, "Out.Rows"), "Out.Rows"),
        ("tail", Right("User:nobody", Operation.READ, On.TOPIC, TOPICS.flows), TOPICS.flows),
        ("tail", Right("User:nobody", Operation.DESCRIBE, On.GROUP, "blobtide.reader"), "blobtide.reader"),
    ],
)
def test_who_lacks_a_right_says_which_in_one_line(
    broker: SecuredKafka, destinations: Path, service: str, right: Right, said: str
) -> None:
    """With one right missing a service ends with exit code 1, and its last line names the topic, group or transactional id."""
    give_work(broker)
    rights = rights_of(load_settings(destinations), [service], {service: "User:nobody"})
    assert right in rights
    words = ["tail", "flows"] if service == "tail" else ["run", *service.replace("sink-", "sink ").split()]
    with granted(broker, [one for one in rights if one != right]):
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *words, "--config", str(destinations)],
            env={**os.environ, **variables(broker, "nobody")}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, "Kafka denied" in last, said in last, "blobtide acls print" in last) == (1, True, True, True), last


def test_a_transaction_that_is_denied_ends_the_service(broker: SecuredKafka) -> None:
    """What may not be written is an error that names it, not a transaction that is tried for ever."""
    rights = [
        Right("User:nobody", Operation.READ, On.TOPIC, TOPICS.raw_flow_logs),
        Right("User:nobody", Operation.READ, On.GROUP, "blobtide.nobody"),
        Right("User:nobody", Operation.DESCRIBE, On.TOPIC, TOPICS.flows),
        Right("User:nobody", Operation.WRITE, On.TRANSACTIONAL_IDS, "blobtide.nobody."),
    ]
    with granted(broker, rights):
        session = TransactionalSession(broker.settings("nobody"), SessionSpec("nobody", 0, (TOPICS.raw_flow_logs,)), Idle())
        session.open()
        deadline = time.monotonic() + SECONDS
        while not session.owned():
            assert time.monotonic() < deadline, "no partitions in time"
            session.poll(10, 0.1)
        with pytest.raises(
            BlobtideError, match=rf"Kafka denied a transaction of blobtide.nobody.0 with .*{TOPICS.flows}.*acls print"
        ):
            session.commit([Outbound(TOPICS.flows, b"x", b"k")], {})
        session.close()


class Idle:
    """A listener that does nothing."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Nothing."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Nothing."""

    def rewound(self, partitions: Collection[TopicPartition]) -> None:
        """Nothing."""


def test_rights_are_granted_once_and_what_is_beyond_them_is_shown(broker: SecuredKafka, tmp_path: Path) -> None:
    """`acls diff` is quiet after `apply`, which may be repeated; a right that nobody needs is named and stays."""
    administrator = CliRunner(env={**broker.administrator(), "BLOBTIDE_CONFIG": str(tmp_path / "none.yaml")})
    (tmp_path / "none.yaml").write_text("")
    words = ["parser", "--principal", "parser=User:nobody"]
    with granted(broker, [Right("User:nobody", Operation.READ, On.TOPIC, TOPICS.errors)]):
        before = administrator.invoke(blobtide, ["acls", "diff", *words])
        assert before.exit_code == 1
        assert f"+ User:nobody may Read topic {TOPICS.raw_flow_logs}" in before.output
        applied = administrator.invoke(blobtide, ["acls", "apply", *words])
        assert applied.exit_code == 0, applied.output
        assert f"! User:nobody may READ topic {TOPICS.errors}: not needed" in applied.output
        assert "0 rights granted" in administrator.invoke(blobtide, ["acls", "apply", *words]).output
        assert administrator.invoke(blobtide, ["acls", "diff", *words]).exit_code == 1
    refused = command(broker, "parser", "acls", "apply", "parser")
    assert isinstance(refused.exception, BlobtideError)
    assert "this user may not see the rights of others" in str(refused.exception)


def test_dead_letters_that_are_denied_end_a_sink(broker: SecuredKafka) -> None:
    """A sink that may see the errors topic but not write to it says so, instead of trying for ever."""
    with granted(broker, [Right("User:nobody", Operation.DESCRIBE, On.TOPIC, TOPICS.errors)]):
        writer = DeadLetterWriter(broker.settings("nobody"), TOPICS.errors)
        with pytest.raises(BlobtideError, match=f"Kafka denied writing dead letters to {TOPICS.errors}"):
            writer.write([LETTER])


def test_a_wrong_password_and_a_foreign_ca_are_told_apart(broker: SecuredKafka, tmp_path: Path) -> None:
    """The line says whether the broker did not take the login or is not trusted, and which setting to look at."""
    with pytest.raises(ServerUnreachable, match=r"refused the login: .*SCRAM-SHA-512; check .*sasl_password"):
        check_reachable(broker.settings("parser", sasl_password="wrong", sasl_password_file=None))  # noqa: S106
    foreign = tmp_path / "ca.pem"
    foreign.write_bytes(access_script().Authority().certificate)
    with pytest.raises(ServerUnreachable, match=r"is not signed by a trusted CA: check kafka.ssl_ca_location"):
        check_reachable(broker.settings("parser", ssl_ca_location=foreign))


def test_a_certificate_that_is_asked_for_and_not_given_is_named(broker: SecuredKafka) -> None:
    """Who comes to the administrator's door without a certificate is told which settings name one."""
    bare = KafkaSettings(
        bootstrap_servers=f"{LOOPBACK}:{broker.admin_port}",
        security_protocol=SecurityProtocol.SSL,
        ssl_ca_location=broker.secrets / "access" / "ca.pem",
    )
    with pytest.raises(ServerUnreachable, match=r"check kafka.ssl_certificate_location and kafka.ssl_key_location"):
        check_reachable(bare)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return the settings `oauth` for a provider that runs, whose certificate is of a CA of its own."""
    authority = access_script().Authority()
    certificate, key = authority.issue("tokens", [LOOPBACK])
    (tmp_path / "tokens.pem").write_bytes(key + certificate)
    (tmp_path / "tokens-ca.pem").write_bytes(authority.certificate)
    (tmp_path / "secret").write_text("tail's secret\n")
    with serving_tokens(ISSUER, tmp_path / "tokens.pem") as url:
        yield {
            "token_url": url,
            "client_id": "tail",
            "client_secret_file": tmp_path / "secret",
            "scope": "kafka.read",
            "ca_location": tmp_path / "tokens-ca.pem",
        }


def test_a_token_signs_in_with_the_rights_of_its_user(broker: SecuredKafka, tokens: dict[str, Any]) -> None:
    """With client id and secret a token is fetched over TLS, and renewed before it ends; rights are those of its subject."""
    kafka = broker.with_token(**tokens)
    check_reachable(kafka, (TOPICS.flows,))
    assert ISSUER.scopes[-1] == "kafka.read"
    with pytest.raises(BlobtideError, match="Kafka denied writing to Errors"):
        write(kafka, [Outbound(TOPICS.errors, b"x", b"k")])
    ISSUER.lifetime_seconds, before = 3, len(ISSUER.scopes)
    follower = Follower(kafka, (TOPICS.flows,), Newest(0))
    follower.open()
    deadline = time.monotonic() + SECONDS
    while len(ISSUER.scopes) < before + 4:  # one for the check, one for the consumer, and two that follow it
        assert time.monotonic() < deadline, "the token was not renewed"
        follower.poll(0.2)
    follower.close()
    ISSUER.lifetime_seconds = 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client_secret_file": None, "client_secret": "wrong"}, "no client has this id and secret"),
        ({"ca_location": None}, "local issuer certificate"),
        ({"token_url": "https://127.0.0.1:9/token"}, "Failed to connect to 127.0.0.1"),
    ],
    ids=["secret", "authority", "address"],
)
def test_a_token_that_is_not_had_says_why(
    broker: SecuredKafka, tokens: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    """What the provider answers, or why it does not, stands in the line, with the settings to look at and no secret."""
    with pytest.raises(ServerUnreachable) as refused:
        check_reachable(broker.with_token(**{**tokens, **change}))
    line = str(refused.value)
    assert line.startswith("cannot sign in to Kafka at")
    assert said in line
    assert "check kafka.oauth" in line
    assert "tail's secret" not in line


def test_a_token_for_somebody_else_is_refused(broker: SecuredKafka, tokens: dict[str, Any]) -> None:
    """A broker takes no token that was issued for another audience."""
    ISSUER.audience = "another"
    try:
        with pytest.raises(ServerUnreachable, match=r"cannot sign in to .*invalid_token"):
            check_reachable(broker.with_token(**tokens))
    finally:
        ISSUER.audience = AUDIENCE
