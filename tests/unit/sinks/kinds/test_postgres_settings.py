"""Settings and statements of the postgres sink, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.postgres.connection import parameters, system_authorities
from services.sinks.kinds.postgres.settings import PostgresSettings
from services.sinks.kinds.postgres.sink import PostgresSink
from services.sinks.kinds.postgres.table import Existing, fits, table_of
from tests.table_rows import LATEST


def settings(**options: Any) -> PostgresSettings:
    """Return settings."""
    return PostgresSettings.model_validate(options)


@pytest.mark.parametrize("host", ["postgresql://h", "user@h:5432", "h:port", "h/x", "h:5432 sslmode=disable", ""])
def test_servers_are_hosts_and_ports(host: str) -> None:
    """Only host, host:port or a directory is a server; no login stands in it, and no other parameter."""
    with pytest.raises(ValidationError, match="give servers as host:port"):
        settings(hosts=[host])


@pytest.mark.parametrize("host", ["h:0", "h:65536", "/run/postgresql:99999"])
def test_ports_are_plausible(host: str) -> None:
    """A port is a number from 1 to 65535."""
    with pytest.raises(ValidationError, match="the port must be a number from 1 to 65535"):
        settings(hosts=host)


def test_all_servers_of_a_cluster_are_given_to_the_driver() -> None:
    """The first that accepts writes is used; a port that is missing is the usual one."""
    made = parameters(settings(hosts="a,b:6432,[::1]:7, /run/postgresql"))
    assert (made["host"], made["port"]) == ("a,b,::1,/run/postgresql", "5432,6432,7,5432")
    assert made["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({"hosts": "db.example"}, ("verify-full", system_authorities())),
        ({"hosts": "db.example", "verify": False}, ("require", None)),
        ({"hosts": "127.0.0.1"}, ("disable", None)),
        ({"hosts": "/run/postgresql"}, ("disable", None)),
        ({"hosts": "127.0.0.1,db.example"}, ("verify-full", system_authorities())),
        ({"hosts": "db.example", "tls": False}, ("disable", None)),
    ],
)
def test_other_machines_are_reached_by_tls(options: dict[str, Any], mode: tuple[str, str | None]) -> None:
    """Servers elsewhere are verified, unless that is waived; this machine needs no TLS."""
    made = parameters(settings(**options))
    assert (made["sslmode"], made.get("sslrootcert")) == mode


def test_an_authority_means_full_verification(tmp_path: Path) -> None:
    """With ca_file even this machine must show a certificate with its name."""
    authority = tmp_path / "ca.pem"
    authority.touch()
    made = parameters(settings(ca_file=authority))
    assert (made["sslmode"], made["sslrootcert"]) == ("verify-full", str(authority))


def test_a_password_goes_only_over_tls(tmp_path: Path) -> None:
    """Credentials for another machine need TLS, unless that is waived; a file that is missing is named."""
    plain: dict[str, Any] = {"hosts": "db.example", "username": "u", "password": "secret", "tls": False}
    sink = PostgresSink(settings(**plain), FLOWS)
    with pytest.raises(ConfigError, match="unencrypted"):
        sink.read_files()
    PostgresSink(settings(**plain, allow_plaintext_credentials=True), FLOWS).read_files()
    del plain["tls"]
    PostgresSink(settings(**plain), FLOWS).read_files()
    with pytest.raises(ConfigError, match="nothing"):
        parameters(settings(username="u", password_file=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"password": "x"}, "username and password .* must be given together"),
        ({"retention_days": 3}, "retention_days needs layout daily or hypertable"),
        ({"tls": False, "ca_file": "/ca.pem"}, "ca_file and cert_file need TLS"),
        ({"table": "a.b.c"}, "table"),
        ({"table": 'a"b'}, "table"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(options: dict[str, Any], text: str) -> None:
    """A contradiction is named."""
    with pytest.raises(ValidationError, match=text):
        settings(**options)


def test_a_column_that_the_table_needs_keeps_its_name() -> None:
    """No column may be renamed to one that tells rows apart."""
    with pytest.raises(ConfigError, match="postgres has a column source_id of its own"):
        table_of(FLOWS, settings(rename={"rule": "source_id"}))
    with pytest.raises(ConfigError, match="rename: postgres needs the column record_offset"):
        table_of(FLOWS, settings(columns=["time", "rule"], rename={"rule": "record_offset"}))


def test_only_text_becomes_an_address() -> None:
    """A number cannot be of type inet."""
    with pytest.raises(ConfigError, match="address_columns: src_port is no text column"):
        table_of(FLOWS, settings(address_columns="src_port"))


def test_rows_with_keys_are_not_divided_by_time() -> None:
    """The newest row of a key may be of any day."""
    with pytest.raises(ConfigError, match="layout: of latest only the newest row"):
        table_of(LATEST, settings(layout="daily"))


def test_the_smallest_table_has_what_tells_rows_apart() -> None:
    """With key id, two numbers and a hash do; the columns of the source are not needed."""
    table, _ = table_of(FLOWS, settings(columns=["src_ip"]))
    assert [column.name for column in table.columns] == ["source_id", "src_ip", "time", "record_offset", "tuple_index"]


@pytest.mark.parametrize(
    ("arriving", "existing", "expected"),
    [
        ("text", "character varying(20)", True),
        ("text", "inet", True),
        ("text", "integer", False),
        ("smallint", "bigint", True),
        ("bigint", "integer", False),
        ("bigint", "numeric", True),
        ("bigint", "numeric(5,0)", False),
        ("timestamp with time zone", "timestamp without time zone", False),
    ],
)
def test_types_of_own_tables_may_be_wider(arriving: str, existing: str, expected: bool) -> None:  # noqa: FBT001
    """A column of the operator's may be of a wider type, never of a narrower one."""
    assert fits(arriving, existing) is expected


def test_a_table_that_keeps_nothing_unique_is_refused() -> None:
    """Without a unique key rows would be there twice."""
    table, _ = table_of(FLOWS, settings())
    types = {column.name: column.type for column in table.columns}
    with pytest.raises(ConfigError, match="nothing keeps source_id, record_offset, tuple_index unique"):
        table.conflict(Existing(types, frozenset(), (frozenset({"time"}),)))
    unique = frozenset({"time", "source_id", "record_offset", "tuple_index"})
    assert table.conflict(Existing(types, frozenset(), (unique,)))[0] == "time"
