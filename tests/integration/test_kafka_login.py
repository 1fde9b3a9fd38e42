"""A broker that asks for a password, which is changed while clients run."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.configs import make_admin
from libs.common.kafka.readers.compacted import CompactedTable
from libs.common.kafka.records import CommitResult, Outbound, TopicPartition
from libs.common.kafka.transactions.session import SessionSpec, TransactionalSession
from libs.common.settings.kafka import KafkaSettings, SaslMechanism, SecurityProtocol
from libs.local.kafka import LocalKafka
from libs.local.ports import LOOPBACK, free_port
from tests.fixtures.servers import serving

SECONDS = 60.0
# A second door, whose connections have to prove every second who they are.
DOOR = """
listeners=PLAINTEXT://{host}:{port},LOGIN://{host}:{login},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},LOGIN://{host}:{login}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256
connections.max.reauth.ms=1000
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


class _GuardedKafka(LocalKafka):
    @cached_property
    def login_port(self) -> int:
        return free_port()

    def _write_properties(self) -> Path:
        file = super()._write_properties()
        door = DOOR.format(host=LOOPBACK, port=self.port, login=self.login_port, controller=self._controller_port)
        file.write_text(file.read_text(encoding="utf-8") + door, encoding="utf-8")
        return file

    def accept(self, password: str) -> None:
        """Let the user in with `password`, and with no other."""
        admin = make_admin(KafkaSettings(bootstrap_servers=self.bootstrap_servers))
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        change = UserScramCredentialUpsertion("user", info, password.encode())
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(SECONDS)


class _Listener:
    def assigned(self, partitions: Collection[TopicPartition]) -> None: ...

    def revoked(self, partitions: Collection[TopicPartition]) -> None: ...

    def rewound(self, partitions: Collection[TopicPartition]) -> None: ...


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[_GuardedKafka]:
    """Return a broker with a topic `t`."""
    broker = _GuardedKafka(tmp_path / "kafka")
    with serving(broker):
        admin = make_admin(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        admin.create_topics([NewTopic("t", 1)])["t"].result(SECONDS)
        yield broker


def test_a_password_is_changed_under_running_clients(broker: _GuardedKafka, tmp_path: Path) -> None:
    """What reads and writes goes on after a rotation without being started anew, also if the file follows later."""
    file = tmp_path / "password"
    file.write_text("first")
    broker.accept("first")
    kafka = KafkaSettings(
        bootstrap_servers=f"{LOOPBACK}:{broker.login_port}",
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        allow_plaintext_credentials=True,
        sasl_mechanism=SaslMechanism.SCRAM_SHA_256,
        sasl_username="user",
        sasl_password_file=file,
    )
    session = TransactionalSession(kafka, SessionSpec("role", 0, ("t",)), _Listener())
    seen: list[bytes | None] = []
    table = CompactedTable(kafka, "t", lambda record: seen.append(record.value))
    session.open()
    table.open()
    _commit(session, b"1")
    table.catch_up()
    broker.accept("second")
    file.unlink()
    _poll_until_lost(table, session)
    file.write_text("second")
    _commit(session, b"2")
    _catch_up(table, session)
    session.close()
    table.close()
    assert seen == [b"1", b"2"]


def _commit(session: TransactionalSession, value: bytes) -> None:
    deadline = time.monotonic() + SECONDS
    while not session.owned() or session.commit([Outbound("t", value, b"k")], {}) is not CommitResult.COMMITTED:
        assert time.monotonic() < deadline, "nothing was committed in time"
        session.poll(10, 0.1)


def _poll_until_lost(table: CompactedTable, session: TransactionalSession) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        session.poll(10, 0.1)
        try:
            table.catch_up(1.0)
        except ServerUnreachable:
            return
    raise AssertionError("the old password still serves")


def _catch_up(table: CompactedTable, session: TransactionalSession) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        session.poll(10, 0.1)
        with suppress(ServerUnreachable):
            table.catch_up(5.0)
            return
    raise AssertionError("the new password is not taken up")
