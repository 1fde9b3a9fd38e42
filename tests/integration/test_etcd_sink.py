"""What the etcd sink does beyond the sink contract, at real etcd servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.local.etcd import LocalEtcd, Terms, cluster_of
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.etcd.settings import EtcdSettings
from services.sinks.kinds.etcd.sink import EtcdSink
from tests.certificates import mutual_tls
from tests.documents import document_id, flat_document
from tests.etcd_client import EtcdClient
from tests.fixtures.servers import serving
from tests.flows import Spot, part, row, rows
from tests.unit.sinks.kinds.test_etcd import NEWEST, newest
from tests.zeromq_peer import eventually

pytestmark = pytest.mark.etcd
PASSWORD = "se'cret"  # noqa: S105


@contextmanager
def sink_of(hosts: str, **options: Any) -> Iterator[EtcdSink]:
    """Open a sink; `row_type` may be given among its options."""
    row_type: RowType = options.pop("row_type", FLOWS)
    sink = EtcdSink(EtcdSettings.model_validate({"hosts": hosts, "timeout_seconds": 10, "ttl_seconds": 0} | options), row_type)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def server_of(directory: Path, terms: Terms) -> Iterator[LocalEtcd]:
    """Run a server with terms of its own."""
    server = LocalEtcd(directory / "etcd", terms=terms)
    with serving(server):
        yield server


@pytest.fixture
def prefix() -> str:
    """Give an unused prefix."""
    return f"/test/{uuid4().hex}"


def write_until_done(sink: EtcdSink, parts: list[Part]) -> Outcome:
    """Write as often as the sink asks, and return the last outcome."""
    outcomes: list[Outcome] = []

    def is_done() -> bool:
        try:
            outcomes.append(sink.write(parts))
        except Retry:
            return False
        return True

    eventually(is_done)
    return outcomes[0]


def test_every_row_is_a_key_of_its_own(etcd_server: LocalEtcd, prefix: str) -> None:
    """Keys are made of the prefix, the values and the identity; the value is the row."""
    content = rows()
    with sink_of(etcd_server.url, prefix=prefix, key="{action}/{src_ip}_{position}") as sink:
        assert sink.write([part(0, content)]) == Outcome(len(content))
    found = {entry.key: json.loads(entry.value) for entry in EtcdClient(etcd_server.url).entries(f"{prefix}/")}
    assert found == {
        f"{prefix}/{values['action']}/{values['src_ip']}_{document_id(values)}": flat_document(values) for values in content
    }


def test_many_rows_are_as_many_operations_as_the_server_allows(etcd_server: LocalEtcd, prefix: str) -> None:
    """With the server's default of 128 operations a large write succeeds, also as a partial replay; one more is refused."""
    content = rows(blobs=3, records=20, tuples=25)
    beats: list[None] = []
    with sink_of(etcd_server.url, prefix=prefix) as sink:
        sink.while_waiting(lambda: beats.append(None))
        assert sink.write([part(0, content[:700])]) == Outcome(700)
        assert sink.write([part(0, content[650:] + content[:10])]) == Outcome(len(content) - 700, 60)
    assert beats
    assert len(EtcdClient(etcd_server.url).entries(f"{prefix}/")) == len(content)
    with (
        sink_of(etcd_server.url, prefix=prefix, transaction_rows=129, key="new/{position}") as sink,
        pytest.raises(ConfigError, match="set transaction_rows to its --max-txn-ops"),
    ):
        sink.write([part(0, content[:129])])


def test_a_server_that_takes_less_than_expected_gets_smaller_transactions(tmp_path: Path, prefix: str) -> None:
    """A request that is too large for the server is divided; only a row that is too large alone is refused."""
    content = [*rows(), row(Spot(9, 0, 0), rule="x" * 30_000)]
    with server_of(tmp_path, Terms(options=("--max-request-bytes=8000",))) as server:
        with sink_of(server.url, prefix=prefix) as sink:
            outcome = sink.write([part(0, content)])
        assert outcome.written == len(content) - 1 == len(EtcdClient(server.url).entries(f"{prefix}/"))
    (refused,) = outcome.rejected
    assert (refused.row, refused.code) == (len(content) - 1, ErrorCode.TOO_LARGE)
    assert "--max-request-bytes" in refused.reason


def test_a_full_database_is_a_retry(tmp_path: Path, prefix: str) -> None:
    """When the quota is used up the sink waits and says what to do; when there is room again all rows are written once."""
    content = [row(Spot(0, record, 0), rule=f"{record}" * 50_000) for record in range(10)]
    with server_of(tmp_path, Terms(options=("--quota-backend-bytes=500000",))) as server:
        client = EtcdClient(server.url)
        with sink_of(server.url, prefix=prefix) as sink:

            def fill() -> None:
                for record in range(1_000):
                    sink.write([part(0, [row(Spot(1, record, 0), rule="y" * 50_000)])])

            with pytest.raises(Retry, match=r"database is full \(alarm NOSPACE\): compact, defragment") as raised:
                fill()
            assert raised.value.kind == "no_space"
            client.ask("/kv/deleterange", key="AA==", range_end="AA==")
            revision = client.ask("/maintenance/status")["header"]["revision"]
            client.ask("/kv/compaction", revision=revision, physical=True)
            client.ask("/maintenance/defragment")
            client.alarm("DEACTIVATE")
            assert write_until_done(sink, [part(0, content[:3])]) == Outcome(3)


# --- Expiry ---


def test_many_keys_share_a_lease_and_expire(etcd_server: LocalEtcd, prefix: str) -> None:
    """Rows of many transactions get one lease, not one each, of the time that was asked for and a little more."""
    client = EtcdClient(etcd_server.url)
    with sink_of(etcd_server.url, prefix=prefix, ttl_seconds=2_000, transaction_rows=5) as sink:
        sink.write([part(0, rows())])
        sink.write([part(0, rows(blobs=5))])
    (lease,) = {entry.lease for entry in client.entries(f"{prefix}/")}
    granted = client.ask("/lease/timetolive", ID=str(lease), keys=True)
    assert int(granted["grantedTTL"]) == 2_000 + 20
    assert len(granted["keys"]) == len(rows(blobs=5))


def test_a_row_that_has_expired_is_gone(etcd_server: LocalEtcd, prefix: str) -> None:
    """After its time the server deletes a key."""
    client = EtcdClient(etcd_server.url)
    with sink_of(etcd_server.url, prefix=prefix, ttl_seconds=60) as sink:
        sink.write([part(0, rows())])
    (lease,) = {entry.lease for entry in client.entries(f"{prefix}/")}
    client.ask("/lease/revoke", ID=str(lease))
    assert client.entries(f"{prefix}/") == []


def test_a_lease_that_is_gone_is_replaced(etcd_server: LocalEtcd, prefix: str) -> None:
    """A lease that somebody revoked is a Retry; the next write takes another, and rows that went with it are not there."""
    client = EtcdClient(etcd_server.url)
    with sink_of(etcd_server.url, prefix=prefix, ttl_seconds=600) as sink:
        sink.write([part(0, rows()[:5])])
        (first,) = {entry.lease for entry in client.entries(f"{prefix}/")}
        client.ask("/lease/revoke", ID=str(first))
        with pytest.raises(Retry, match="another one is taken"):
            sink.write([part(0, rows()[5:])])
        assert write_until_done(sink, [part(0, rows()[5:])]) == Outcome(len(rows()) - 5)
    (second,) = {entry.lease for entry in client.entries(f"{prefix}/")}
    assert second != first


# --- Rows of which only the newest counts ---


def test_the_newest_row_of_a_key_replaces_the_others(etcd_server: LocalEtcd, prefix: str) -> None:
    """Where only the newest row of a key counts its value is replaced; the same value again is nothing new."""
    client = EtcdClient(etcd_server.url)

    def states() -> dict[str, str]:
        values = [json.loads(entry.value) for entry in client.entries(f"{prefix}/")]
        return {one["host"]: one["state"] for one in values}

    with sink_of(etcd_server.url, row_type=NEWEST, prefix=prefix, transaction_rows=2) as sink:
        content = newest(("a", "on"), ("b", "on"), ("c", "on"), ("a", "off"))
        assert sink.write([Part(0, NEWEST, content, (4,))]) == Outcome(3, 1)
        assert states() == {"a": "off", "b": "on", "c": "on"}
        assert sink.write([Part(0, NEWEST, content, (4,))]) == Outcome(0, 4)
        assert sink.write([Part(0, NEWEST, newest(("b", "off")), (1,))]) == Outcome(1)
    assert states() == {"a": "off", "b": "off", "c": "on"}


# --- Sign-in and TLS ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEtcd]:
    """An etcd with users: root, and a writer who may write below /mine/."""
    with server_of(tmp_path_factory.mktemp("guarded"), Terms()) as server:
        client = EtcdClient(server.url)
        client.require_sign_in(PASSWORD)
        client.add_user("writer", PASSWORD, "/mine/")
        yield server


def test_a_user_writes_where_he_may(guarded: LocalEtcd, tmp_path: Path) -> None:
    """Readwrite permission for the prefix is enough; without it, with a wrong password or without a user the sink stops."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    login = {"username": "writer", "password_file": file}
    with sink_of(guarded.url, prefix="/mine", ttl_seconds=600, **login) as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        assert sink.write([part(0, rows())]) == Outcome(0, len(rows()))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"prefix": "/yours", **login}, "permission denied: the user needs a role with readwrite permission"),
        ({"prefix": "/mine", "username": "writer", "password": "wrong-one"}, "the sign-in is denied; check username"),
        ({"prefix": "/mine"}, "it requires sign-in; set username and password"),
    ]
    for options, said in cases:
        with pytest.raises(ConfigError, match=said) as raised:
            sink_of(guarded.url, **options).__enter__()
        assert "wrong-one" not in str(raised.value)


def test_a_token_that_has_expired_is_renewed(guarded: LocalEtcd) -> None:
    """A server that has forgotten the token, or whose users have changed, is signed in to again, within the write."""
    with sink_of(guarded.url, prefix="/mine", username="writer", password=PASSWORD, key="renewed/{position}") as sink:
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)
        root = EtcdClient(guarded.url)
        root.sign_in(PASSWORD)
        root.ask("/auth/user/add", name=f"another-{uuid4().hex}", password=PASSWORD)
        assert sink.write([part(0, rows()[3:6])]) == Outcome(3)
        guarded.kill()
        guarded.start()
        assert write_until_done(sink, [part(0, rows()[6:])]) == Outcome(len(rows()) - 6)


def test_a_right_that_is_taken_away_stops_the_sink(guarded: LocalEtcd) -> None:
    """A permission that is revoked while the sink runs is the operator's business, not a loss."""
    root = EtcdClient(guarded.url)
    root.sign_in(PASSWORD)
    name = f"leaver-{uuid4().hex}"
    root.add_user(name, PASSWORD, "/theirs/")
    with sink_of(guarded.url, prefix="/theirs", username=name, password=PASSWORD) as sink:
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)
        root.ask("/auth/user/revoke", name=name, role=name)
        with pytest.raises(ConfigError, match="permission denied"):
            sink.write([part(0, rows())])


def test_a_server_without_users_does_not_take_one(etcd_server: LocalEtcd) -> None:
    """A user for a server that has none is a mistake that is said."""
    with pytest.raises(ConfigError, match="it has no users; remove username and password"):
        sink_of(etcd_server.url, username="u", password=PASSWORD).__enter__()


def test_certificates_are_checked_on_both_sides(tmp_path: Path) -> None:
    """Over TLS a server is trusted if its authority is; one that asks for a client's certificate gets ours."""
    tls, ours = mutual_tls(tmp_path)
    terms = Terms(tls=tls, client_ca=tmp_path / "ca.pem", client=ours)
    with server_of(tmp_path, terms) as server:
        own = {"ca_file": tmp_path / "ca.pem", "cert_file": ours.certificate, "key_file": ours.key}
        for options in (own, {**own, "ca_file": None, "verify": False}):
            with sink_of(server.url, **options) as sink:
                sink.write([part(0, rows())])
        with pytest.raises(ConfigError, match="not trusted"):
            sink_of(server.url, **{**own, "ca_file": None}).__enter__()
        with pytest.raises(ServerUnreachable):
            sink_of(server.url, ca_file=tmp_path / "ca.pem").__enter__()


# --- Clusters ---


@contextmanager
def running_cluster(directory: Path) -> Iterator[list[LocalEtcd]]:
    """Run a cluster of three."""
    LocalEtcd.install()
    members = cluster_of(directory)
    try:
        for member in members:
            member.begin()
        for member in members:
            eventually(member.is_up)
        yield members
    finally:
        for member in members:
            member.kill()


def test_a_member_that_dies_while_rows_are_written_is_replaced_by_the_others(tmp_path: Path, prefix: str) -> None:
    """Of three members one is killed in the middle of a write, then a second: only then the sink waits, and no row is lost."""
    content = rows(blobs=4, records=25, tuples=20)
    with running_cluster(tmp_path) as members, sink_of(",".join(one.url for one in members), prefix=prefix) as sink:
        _while_writing(members[0].kill, members[1], prefix)
        written = write_until_done(sink, [part(0, content)])
        assert written.written + written.already_there == len(content)
        members[1].kill()
        with pytest.raises(Retry):
            sink.write([part(0, content)])
        members[1].start()
        assert write_until_done(sink, [part(0, content)]) == Outcome(0, len(content))
        assert len(EtcdClient(members[2].url).entries(f"{prefix}/")) == len(content)


def _while_writing(happens: Callable[[], None], member: LocalEtcd, prefix: str) -> None:
    """Do something when some rows have arrived."""
    client = EtcdClient(member.url)

    def run() -> None:
        eventually(lambda: len(client.entries(f"{prefix}/")) > 100)
        happens()

    threading.Thread(target=run).start()


def test_a_server_that_is_no_etcd_or_not_there_is_named(tmp_path: Path) -> None:
    """A start says which address does not answer."""
    url = f"http://{LOOPBACK}:{free_port()}"
    with pytest.raises(ServerUnreachable, match=rf"{url} does not respond.*is etcd running, and are the sink's hosts correct"):
        sink_of(url).__enter__()
