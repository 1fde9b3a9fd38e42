"""Settings of the clickhouse sink."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.kind import Promise
from services.sinks.kinds.clickhouse.sink import ClickHouseSettings, ClickHouseSink


def test_hosts_are_addresses_of_http() -> None:
    """A wrong address is refused."""
    with pytest.raises(ValidationError, match="give addresses as http"):
        ClickHouseSettings.model_validate({"hosts": ["h:8123"]})


def test_a_password_alone_signs_in_the_default_user() -> None:
    """The server's user without a name is called default."""
    assert ClickHouseSettings.model_validate({"password": "p"}).sign_in() == {"Authorization": "Basic ZGVmYXVsdDpw"}


@pytest.mark.parametrize("name", ["a b", "a`b", "a.b", "1a", "", "a" * 101])
@pytest.mark.parametrize("option", ["database", "table"])
def test_names_are_plain(option: str, name: str) -> None:
    """A database and a table have plain names."""
    with pytest.raises(ValidationError, match=option):
        ClickHouseSettings.model_validate({option: name})


def test_a_password_goes_only_over_tls() -> None:
    """Credentials for another machine need TLS, unless that is waived."""
    plain = {"hosts": "http://db.example:8123", "username": "u", "password": "secret"}
    sink = ClickHouseSink(ClickHouseSettings.model_validate(plain), FLOWS)
    with pytest.raises(ConfigError, match="unencrypted"):
        sink.read_files()
    for more in (
        {"hosts": "https://db.example:8443"},
        {"allow_plaintext_credentials": True},
        {"hosts": "http://127.0.0.1:8123"},
    ):
        ClickHouseSink(ClickHouseSettings.model_validate(plain | more), FLOWS).read_files()


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    """Files of passwords and authorities are looked for before anything is connected."""
    for option in ("password_file", "ca_file"):
        settings = ClickHouseSettings.model_validate({option: tmp_path / "nothing", "hosts": "https://h"})
        with pytest.raises(ConfigError, match="nothing"):
            ClickHouseSink(settings, FLOWS).read_files()


def test_rows_are_there_once() -> None:
    """The sink promises each row once."""
    assert ClickHouseSink(ClickHouseSettings(), FLOWS).promise is Promise.EFFECTIVELY_ONCE


def test_a_part_of_the_batch_settings_keeps_the_others() -> None:
    """Batches are larger than those of other sinks, also where one of their settings is given."""
    settings = ClickHouseSettings.model_validate({"batch": {"messages": 5}})
    assert (settings.batch.seconds, settings.batch.bytes, settings.batch.messages) == (5.0, 16_777_216, 5)
