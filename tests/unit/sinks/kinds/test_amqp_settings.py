"""Settings and routing keys of the amqp sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.amqp.routing import RoutingKeys
from services.sinks.kinds.amqp.server import Address
from services.sinks.kinds.amqp.settings import AmqpSettings
from services.sinks.kinds.amqp.sink import AmqpSink, _seconds
from tests.certificates import server_tls
from tests.flows import Spot, row
from tests.row_samples import table


def settings(**options: Any) -> AmqpSettings:
    """Return settings with these options."""
    return AmqpSettings.model_validate(options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "give amqp://host:port"),
        ("amqp://", "give amqp://host:port"),
        ("amqp://h?heartbeat=5", "give amqp://host:port"),
        ("amqp://h/flows", "give the virtual host as vhost"),
        ("amqp://h:99999", "the port is a number"),
        ("amqp://user:secret@h", "not in the address"),
    ],
)
def test_an_address_is_a_host_and_a_port(url: str, said: str) -> None:
    """Only amqp(s)://host[:port] is an address, and what is wrong is said without quoting it."""
    with pytest.raises(ValidationError, match=said) as raised:
        settings(urls=[url])
    assert "secret" not in str(raised.value)


def test_several_nodes_are_a_list_or_separated_by_commas() -> None:
    """Without a port it is the usual one: 5672, and 5671 with TLS."""
    server = settings(urls="amqp://a, amqps://b, amqp://c:1").server("n")
    assert server.addresses == (Address("a", 5672), Address("b", 5671, is_tls=True), Address("c", 1))
    assert server.tls is not None
    assert settings(urls=["amqp://a"]).server("n").tls is None


def test_a_password_goes_with_a_user_and_only_over_tls(tmp_path: Path) -> None:
    """Credentials for another machine need TLS, unless that is waived; a password alone is a mistake."""
    with pytest.raises(ValidationError, match="must be given together"):
        settings(password="secret")  # noqa: S106
    login = {"username": "u", "password": "secret"}
    with pytest.raises(ConfigError, match="unencrypted"):
        AmqpSink(settings(urls="amqps://a,amqp://h", **login), FLOWS).read_files()
    for more in ({"urls": "amqps://h"}, {"urls": "amqp://h", "allow_plaintext_credentials": True}, {}):
        AmqpSink(settings(**login, **more), FLOWS).read_files()
    with pytest.raises(ConfigError, match=r"ca_file .*nothing does not exist"):
        AmqpSink(settings(urls="amqps://h", ca_file=tmp_path / "nothing"), FLOWS).read_files()


def test_a_certificate_signs_in_without_a_password(tmp_path: Path) -> None:
    """External needs a certificate and TLS, and no password."""
    tls = server_tls(tmp_path)
    own = {"sign_in": "external", "cert_file": tls.certificate, "key_file": tls.key}
    assert settings(urls="amqps://h", **own).server("n").tls is not None
    for wrong in ({"urls": "amqp://h", **own}, {"urls": "amqps://h", "sign_in": "external"}):
        with pytest.raises(ValidationError, match="external requires cert_file"):
            settings(**wrong)
    with pytest.raises(ValidationError, match="remove username"):
        settings(urls="amqps://h", username="u", password="p", **own)  # noqa: S106


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """What cannot be read is said at the check of the settings."""
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="amqp: a file with certificates"):
        settings(urls="amqps://h", ca_file=tmp_path / "ca.pem").server("n")


def keys_of(template: str | None, *rows: dict[str, Any]) -> list[str]:
    """Return the routing keys of flows."""
    keys, objections = RoutingKeys(template, FLOWS).of(table(FLOWS, rows))
    assert objections == [None] * len(rows)
    return keys


def test_flows_are_routed_by_their_log() -> None:
    """NSG and VNet flow logs have routing keys of their own, and so has what is neither."""
    categories = ["NetworkSecurityGroupFlowEvent", "FlowLogFlowEvent", None, "Other"]
    rows = [row(Spot(0, 0, at), category=category) for at, category in enumerate(categories)]
    assert keys_of(None, *rows) == ["flowlog.nsg", "flowlog.vnet", "flowlog.other", "flowlog.other"]
    parts = pa.concat_tables([table(FLOWS, rows[:2]), table(FLOWS, rows[2:])])
    assert RoutingKeys(None, FLOWS).of(parts)[0] == keys_of(None, *rows)


def test_rows_of_other_types_are_routed_by_their_type() -> None:
    """Dead letters have one routing key by default."""
    keys, _ = RoutingKeys(None, DEAD_LETTERS).of(DEAD_LETTERS.example_table)
    assert keys == ["dead_letters"]


def test_a_value_is_one_word() -> None:
    """No value adds a word or a wildcard; a null or nothing is an underscore."""
    rows = [row(Spot(0, 0, 0), rule="a.b#*"), row(Spot(0, 0, 1), rule=None), row(Spot(0, 0, 2), rule="")]
    assert keys_of("{rows}.{rule}.x", *rows) == ["flows.a_b__.x", "flows._.x", "flows._.x"]


def test_a_routing_key_that_is_too_long_costs_its_row() -> None:
    """AMQP has room for 255 bytes."""
    keys = RoutingKeys("x" * 200 + ".{rule}", FLOWS)
    _, objections = keys.of(table(FLOWS, [row(Spot(0, 0, 0), rule="y" * 54), row(Spot(0, 0, 1), rule="y" * 55)]))
    assert objections == [None, "a routing key has at most 255 bytes, not 256"]
    with pytest.raises(ConfigError, match="routing_key: a routing key has at most 255 bytes"):
        AmqpSink(settings(routing_key="x" * 256), FLOWS)
    with pytest.raises(ConfigError, match=r"routing_key: .*nothing"):
        AmqpSink(settings(routing_key="{nothing}"), FLOWS)


def test_times_are_whole_seconds() -> None:
    """AMQP knows no fractions and nothing before 1970."""
    times = pa.chunked_array([pa.array([1_999, -5_000, 0], pa.timestamp("ms", tz="UTC"))])
    assert _seconds(times) == [1, 0, 0]
