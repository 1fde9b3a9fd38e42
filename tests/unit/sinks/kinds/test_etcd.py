"""Settings, keys, errors and the cutting of transactions of the etcd sink."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.rows.row_type import Column, PositionColumns, RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.kind import Promise
from services.sinks.kinds.etcd.faults import EtcdFault, error_of
from services.sinks.kinds.etcd.keys import KeyMaker
from services.sinks.kinds.etcd.settings import EtcdSettings
from services.sinks.kinds.etcd.sink import EtcdSink
from services.sinks.kinds.etcd.transactions import Entries, Limits, cut
from tests.documents import document_id
from tests.flows import Spot, row, rows, table

NEWEST = RowType(
    name="hosts",
    version=1,
    description="Of each host, only the newest row counts.",
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when", nullable=False),
        Column("host", pa.string(), "which host"),
        Column("state", pa.string(), "its state"),
        Column("source", pa.string(), "source", nullable=False),
        Column("generation", pa.string(), "generation", nullable=False),
        Column("offset", pa.int64(), "offset", nullable=False),
        Column("index", pa.int32(), "index", nullable=False),
    ),
    topic="flows",
    time="time",
    position=PositionColumns("source", "generation", "offset", "index"),
    keys=("host",),
)
"""A row type of which only the newest row of each key counts."""


def newest(*states: tuple[str | None, str]) -> pa.Table:
    """Return rows of hosts with their states, in order."""
    when = datetime(2026, 5, 1, tzinfo=UTC)
    values = [
        {"time": when, "host": host, "state": state, "source": "s", "generation": "g", "offset": number, "index": 0}
        for number, (host, state) in enumerate(states)
    ]
    return pa.Table.from_pylist(values, schema=NEWEST.schema)


def settings(**options: Any) -> EtcdSettings:
    """Return settings with these options."""
    return EtcdSettings.model_validate(options)


def keys_of(content: pa.Table, row_type: RowType = FLOWS, **options: Any) -> list[str]:
    """Return the keys of rows."""
    chosen = settings(**options)
    maker = KeyMaker(chosen.key_prefix(row_type), chosen.key_template(row_type), row_type)
    return [key.decode() for key in maker.keys(content)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": "etcd:2379"}, "give addresses as"),
        ({"hosts": "http://user:secret@h:2379"}, "not in the address"),
        ({"password": "secret"}, "must be given together"),
        ({"prefix": "a b"}, "match pattern"),
        ({"cert_file": "a"}, "cert_file and key_file must be given together"),
    ],
)
def test_what_is_no_address_or_no_sign_in_is_refused(options: dict[str, Any], said: str) -> None:
    """Options that are wrong are refused without quoting a secret."""
    with pytest.raises(ValidationError, match=said) as raised:
        settings(**options)
    assert "secret" not in str(raised.value)


def test_a_password_goes_over_tls_only() -> None:
    """Credentials for another machine need TLS, unless that is waived."""
    login = {"username": "u", "password": "secret"}
    with pytest.raises(ConfigError, match="unencrypted"):
        EtcdSink(settings(hosts="http://h:2379", **login), FLOWS).read_files()
    for options in ({"hosts": "https://h:2379"}, {"hosts": "http://h:1", "allow_plaintext_credentials": True}, {}):
        EtcdSink(settings(**options, **login), FLOWS).read_files()


def test_what_expires_is_not_remembered() -> None:
    """Only keys that are kept for ever prove that a row was written."""
    assert EtcdSink(settings(), FLOWS).promise is Promise.AT_LEAST_ONCE
    assert EtcdSink(settings(ttl_seconds=0), FLOWS).promise is Promise.EFFECTIVELY_ONCE


def test_keys_are_made_of_values_and_the_identity() -> None:
    """The key of a flow has its category, time and addresses; those of other rows their time; all end in the identity."""
    values = row(Spot(1, 2, 4))
    (key,) = keys_of(table([values]))
    assert key == f"/flowlogs/FlowLogFlowEvent/2026-05-01T12:02:00.004Z_10.1.0.4_{values['dst_ip']}_{document_id(values)}"
    (letter,) = keys_of(DEAD_LETTERS.example_table, DEAD_LETTERS)
    assert letter.startswith("/dead_letters/2026-05-01T12:00:07.250Z_")
    assert keys_of(table([values]), prefix="a/b", key="x{position}y") == [f"a/b/x{document_id(values)}y"]


def test_values_add_no_level_to_a_key() -> None:
    """What is no letter, digit or one of . _ : - becomes an underscore; nothing does, too; a long value is cut."""
    for value, shown in (
        ("a/b\n\u00fc'", "a_b___"),
        ("", "_"),
        (None, "_"),
        ("x" * 300, "x" * 100),
        ("2001:db8::1", "2001:db8::1"),
    ):
        content = table([row(Spot(0, 0, 0), rule=value)])
        assert keys_of(content, key="{rule}/{position}")[0].split("/")[2:-1] == [shown]


def test_no_two_rows_have_the_same_key() -> None:
    """Whatever else is equal, the identity is not; a template without it, or with an unknown column, is refused."""
    content = table(rows())
    assert len(set(keys_of(content, key="{position}"))) == content.num_rows
    for key, said in (("{src_ip}", r"\{position\} is required"), ("{src}{position}", "unknown column src")):
        with pytest.raises(ConfigError, match=f"key: {said}"):
            EtcdSink(settings(key=key), FLOWS)


def test_the_key_of_a_row_that_replaces_others_is_that_of_its_key_columns() -> None:
    """Where only the newest row counts, rows of one key have one key, and different ones do not, however alike."""
    one, two, other, none, word = keys_of(
        newest(("a/b", "on"), ("a/b", "off"), ("a_b", "on"), (None, ""), ("None", "")), NEWEST
    )
    assert one == two
    assert len({one, other, none, word}) == 4
    assert one.startswith("/hosts/")


def test_of_rows_with_one_key_in_a_transaction_the_last_is_put() -> None:
    """A transaction may name a key once: where only the newest row counts, that is the last one."""
    entries = EtcdSink(settings(), NEWEST)._entries(newest(("a", "on"), ("b", "on"), ("a", "off")), 100)
    assert sorted(entries.rows) == [101, 102]
    twice = table([*rows()[:3], *rows()[:3]])
    assert len(EtcdSink(settings(), FLOWS)._entries(twice, 0)) == 3


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(1, 9), st.integers(100, 900))
def test_transactions_keep_both_limits_and_lose_nothing(sizes: list[int], most: int, most_bytes: int) -> None:
    """All rows are in transactions, in order; only a row that is too large by itself exceeds the limit of bytes."""
    entries = Entries.of(range(len(sizes)), [b"k%d" % number for number in range(len(sizes))], [b"x" * size for size in sizes])
    batches = list(cut(entries, Limits(most, most_bytes)))
    assert [row for batch in batches for row in batch.rows] == list(range(len(sizes)))
    assert all(0 < len(batch) <= most for batch in batches)
    assert all(sum(batch.sizes()) <= most_bytes or len(batch) == 1 for batch in batches)


def error(code: int, text: str, status: int = 400) -> Answer:
    """Return an error as the gateway gives it."""
    return Answer(status, json.dumps({"error": text, "message": text, "code": code}).encode())


@pytest.mark.parametrize(
    ("answer", "fault", "kind"),
    [
        (error(16, "etcdserver: invalid auth token", 401), EtcdFault.SIGN_IN, "token"),
        (error(3, "etcdserver: revision of auth store is old"), EtcdFault.SIGN_IN, "token"),
        (error(3, "etcdserver: request is too large"), EtcdFault.TOO_LARGE, "too_large"),
        (error(8, "grpc: received message larger than max (1 vs. 2)", 429), EtcdFault.TOO_LARGE, "too_large"),
        (error(5, "etcdserver: requested lease not found", 404), EtcdFault.NO_LEASE, "lease"),
        (error(7, "etcdserver: permission denied", 403), EtcdFault.OPERATOR, "denied"),
        (error(3, "etcdserver: authentication failed, invalid user ID or password"), EtcdFault.OPERATOR, "login"),
        (error(3, "etcdserver: user name is empty"), EtcdFault.OPERATOR, "login"),
        (error(9, "etcdserver: authentication is not enabled"), EtcdFault.OPERATOR, "login"),
        (error(3, "etcdserver: too many operations in txn request"), EtcdFault.OPERATOR, "operations"),
        (error(8, "etcdserver: mvcc: database space exceeded", 429), EtcdFault.WORLD, "no_space"),
        (error(14, "etcdserver: request timed out", 503), EtcdFault.WORLD, "timeout"),
        (error(2, "something new", 500), EtcdFault.WORLD, "code_2"),
        (error(99, "something new", 500), EtcdFault.WORLD, "other"),
        (Answer(404, b"404 page not found"), EtcdFault.WORLD, "status_404"),
        (Answer(401, b""), EtcdFault.SIGN_IN, "token"),
        (Answer(200, b"\xff"), EtcdFault.WORLD, "status_200"),
    ],
)
def test_errors_are_somebodys_fault(answer: Answer, fault: EtcdFault, kind: str) -> None:
    """The text of an error says whose fault it is; what is unknown passes."""
    found = error_of(answer)
    assert (found.fault, found.kind) == (fault, kind)
    expected = ConfigError if fault is EtcdFault.OPERATOR else Retry
    assert isinstance(found.exception(), expected)
