"""Settings and statements of the snowflake sink, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.snowflake.connection import parameters
from services.sinks.kinds.snowflake.settings import SnowflakeSettings
from services.sinks.kinds.snowflake.sink import SnowflakeSink
from services.sinks.kinds.snowflake.table import Existing, fits, table_of, text
from tests.table_rows import LATEST

ENOUGH: dict[str, Any] = {"account": "ORG-NET_WORK", "username": "u", "password": "p", "database": "logs"}


def settings(**options: Any) -> SnowflakeSettings:
    """Return settings; an option that is None is left out."""
    given = {**ENOUGH, **options}
    return SnowflakeSettings.model_validate({name: value for name, value in given.items() if value is not None})


def test_the_account_is_the_host() -> None:
    """Its characters that no host has are replaced as Snowflake says; names are given in capitals."""
    made = parameters(settings(role="loader", table="net.rows"))
    assert (made["protocol"], made["host"], made["port"]) == ("https", "org-net-work.snowflakecomputing.com", 443)
    assert (made["account"], made["database"], made["schema"], made["role"]) == ("ORG-NET_WORK", "LOGS", "NET", "LOADER")
    assert "warehouse" not in made, "the user's own"


def test_another_host_is_used_as_it_is() -> None:
    """PrivateLink and other domains have an address of their own."""
    made = parameters(settings(url="https://app.privatelink.snowflakecomputing.com:8443/"))
    assert (made["protocol"], made["host"], made["port"]) == ("https", "app.privatelink.snowflakecomputing.com", 8443)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"account": "a/b"}, "account"),
        ({"account": "https://a.snowflakecomputing.com"}, "account"),
        ({"url": "ftp://a"}, "give addresses as https://host"),
        ({"url": "https://u:p@a"}, "give user and password as username"),
        ({"url": "https://a/path"}, "without a path"),
        ({"database": "a.b"}, "database"),
        ({"table": "a.b.c"}, "table"),
        ({"table": 'a"b'}, "table"),
        ({"password": None}, "give one way to sign in: private_key_file, password, oauth_token"),
        ({"private_key_file": "/k"}, "give one way to sign in: .*, not private_key_file and password"),
        ({"username": None}, "username and password .* must be given together"),
        (
            {"password": None, "username": None, "private_key_file": "/k"},
            "username and private_key_file must be given together",
        ),
        ({"private_key_passphrase": "x"}, "private_key_passphrase is for private_key_file"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(options: dict[str, Any], message: str) -> None:
    """A contradiction is named."""
    with pytest.raises(ValidationError, match=message):
        settings(**options)


def test_a_key_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Encrypted or not, of any kind that Snowflake knows; a wrong passphrase or file is told, and nothing of what is in it."""
    key, file = ec.generate_private_key(ec.SECP256R1()), tmp_path / "key.p8"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)

    def given(passphrase: str | None = None) -> dict[str, Any]:
        return parameters(settings(password=None, private_key_file=file, private_key_passphrase=passphrase))

    file.write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    made = given()
    assert made["authenticator"] == "SNOWFLAKE_JWT"
    assert serialization.load_der_private_key(made["private_key"], None).private_numbers() == key.private_numbers()  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="is no private key in PEM form, or its private_key_passphrase is wrong"):
        given("word")
    file.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"word")))
    assert given("word")["private_key"] == made["private_key"]
    with pytest.raises(ConfigError, match="or it needs a private_key_passphrase"):
        given()
    file.write_text("no key, but a secret")
    with pytest.raises(ConfigError, match="is no private key in PEM form") as raised:
        given()
    assert "secret" not in str(raised.value)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot read private_key_file"):
        SnowflakeSink(settings(password=None, private_key_file=file), FLOWS).read_files()


def test_a_token_needs_no_user(tmp_path: Path) -> None:
    """An OAuth token says whose it is."""
    (tmp_path / "token").write_text("t0ken\n")
    made = parameters(settings(username=None, password=None, oauth_token_file=tmp_path / "token"))
    assert (made["authenticator"], made["token"]) == ("OAUTH", "t0ken")
    assert "user" not in made


def test_loads_are_minutes_apart_not_seconds() -> None:
    """A warehouse costs as long as it runs: by default rows are collected for a minute, and may be for longer."""
    assert settings().batch.seconds == 60
    assert settings(batch={"seconds": 900}).batch.seconds == 900


@pytest.mark.parametrize(
    ("arriving", "existing", "expected"),
    [
        ("VARCHAR", "VARCHAR(16777216)", True),
        ("VARCHAR", "VARCHAR(20)", True),
        ("VARCHAR", "NUMBER(38,0)", False),
        ("NUMBER(5,0)", "NUMBER(38,0)", True),
        ("NUMBER(5,0)", "NUMBER(5,0)", True),
        ("NUMBER(5,0)", "NUMBER(7,2)", True),
        ("NUMBER(5,0)", "NUMBER(6,2)", False),
        ("NUMBER(19,0)", "FLOAT", False),
        ("TIMESTAMP_LTZ(3)", "TIMESTAMP_NTZ(9)", True),
        ("TIMESTAMP_LTZ(9)", "TIMESTAMP_LTZ(3)", False),
        ("TIMESTAMP_LTZ(3)", "DATE", False),
        ("BINARY", "BINARY(8388608)", True),
        ("FLOAT", "FLOAT", True),
        ("BOOLEAN", "BOOLEAN", True),
    ],
)
def test_types_of_own_tables_may_be_wider(arriving: str, existing: str, expected: bool) -> None:  # noqa: FBT001
    """A column of the operator's may be of a wider type, never of a narrower one."""
    assert fits(arriving, existing) is expected


def test_a_table_with_more_columns_will_do() -> None:
    """Columns that are not ours may have a default or take nulls, but must not need a value."""
    table, _ = table_of(FLOWS, settings())
    types = {column.name: column.wire.sql for column in table.columns} | {"LOADED_AT": "TIMESTAMP_LTZ(9)"}
    assert table.missing(Existing(types, frozenset({"LOADED_AT", "TIME"}))) == ()
    with pytest.raises(ConfigError, match="column LOADED_AT takes no nulls, and no row has it"):
        table.missing(Existing(types, frozenset({"LOADED_AT"}), frozenset({"LOADED_AT"})))


def test_a_literal_has_no_way_out() -> None:
    """Quotes and backslashes, which Snowflake reads as escapes, stay what they are."""
    assert text("it's a \\' b") == "'it''s a \\\\'' b'"


def test_only_the_times_of_a_load_are_searched() -> None:
    """The statement that adds rows names the range of their times, so that it reads few files of the table."""
    table, _ = table_of(FLOWS, settings())
    merge = table.merge("ROWS", (1_777_636_800_000, 1_777_636_860_000))
    searched = 't."TIME" BETWEEN TO_TIMESTAMP_LTZ(1777636800000, 3) AND TO_TIMESTAMP_LTZ(1777636860000, 3)'
    assert searched in merge
    assert "WHEN MATCHED" not in merge
    table, _ = table_of(LATEST, settings())
    merge = table.merge("ROWS", (0, 1))
    assert "BETWEEN" not in merge, "the newest row of a key may be of any day"
    assert "WHEN MATCHED AND" in merge


def test_the_smallest_table_has_what_tells_rows_apart() -> None:
    """Whatever is chosen, time and position are there."""
    table, _ = table_of(FLOWS, settings(columns=["src_ip"]))
    names = [column.name for column in table.columns]
    assert names == ["SRC_IP", "TIME", "BLOB", "GENERATION", "RECORD_OFFSET", "TUPLE_INDEX"]
    with pytest.raises(ConfigError, match="rename: snowflake needs the column record_offset"):
        table_of(FLOWS, settings(columns=["time", "rule"], rename={"rule": "record_offset"}))
