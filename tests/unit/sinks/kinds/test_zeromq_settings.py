"""Settings and keys of the zeromq sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.kind import Promise
from services.sinks.kinds.zeromq.keys import CurveKeys, read_keys
from services.sinks.kinds.zeromq.settings import ZeroMqSettings
from services.sinks.kinds.zeromq.sink import ZeroMqSink
from tests.zeromq_peer import certificates


def settings(**options: Any) -> ZeroMqSettings:
    """Return settings with these options."""
    return ZeroMqSettings.model_validate(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoints": "udp://h:1"}, "give addresses as tcp://host:port"),
        ({"endpoints": "tcp://h"}, "give addresses as tcp://host:port"),
        ({"endpoints": "tcp://user@h:1"}, "give addresses as tcp://host:port"),
        ({"endpoints": ["tcp://h:1", "inproc://a"]}, "give addresses as tcp://host:port"),
        ({"endpoints": "tcp://h:65536"}, "the port is a number"),
        ({"endpoints": "tcp://h:0"}, "the port is a number"),
        ({"endpoints": []}, "at least 1"),
        ({"endpoints": "tcp://*:5555"}, "name a host, or set bind"),
        ({"key": "{src_ip}"}, "put the columns into the topic"),
        ({"wait_for_slow": True}, "for mode pub"),
        ({"curve_server_key_file": "a"}, "need curve_key_file"),
        ({"curve_any_client": True, "bind": True}, "need curve_key_file"),
        ({"curve_key_file": "a"}, "needs curve_server_key_file"),
        ({"curve_key_file": "a", "bind": True}, "needs curve_clients_directory"),
        ({"curve_key_file": "a", "bind": True, "curve_server_key_file": "b"}, "needs no curve_server_key_file"),
        ({"curve_key_file": "a", "curve_server_key_file": "b", "curve_any_client": True}, "are for bind: true"),
        ({"curve_key_file": "a", "bind": True, "curve_any_client": True, "curve_clients_directory": "b"}, "not both"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], said: str) -> None:
    """An address that is none, and options that contradict each other, are refused with a way out."""
    with pytest.raises(ValidationError, match=said):
        settings(**options)


@pytest.mark.parametrize("endpoint", ["tcp://host-1.example:5555", "tcp://[2001:db8::1]:5555", "ipc:///run/flows.sock"])
def test_addresses_are_hosts_with_ports_or_sockets(endpoint: str) -> None:
    """Names, IPv6 addresses and Unix sockets are addresses; several are separated by commas."""
    assert settings(endpoints=f"{endpoint}, tcp://other:1").endpoints == (endpoint, "tcp://other:1")


def test_only_a_dealer_promises_more_than_to_send() -> None:
    """What nobody acknowledges is only promised to who is there."""
    promises = {mode: ZeroMqSink(settings(mode=mode), FLOWS).promise for mode in ("dealer", "push", "pub")}
    assert promises == {
        "dealer": Promise.AT_LEAST_ONCE,
        "push": Promise.TO_WHO_IS_THERE,
        "pub": Promise.TO_WHO_IS_THERE,
    }


def test_keys_come_from_certificate_files(tmp_path: Path) -> None:
    """Each side has its own keys, and the public one of the other: a server as a file, clients as a directory."""
    files = certificates(tmp_path)
    as_client = read_keys(settings(curve_key_file=files.sink, curve_server_key_file=files.peer_public))
    as_server = read_keys(settings(bind=True, curve_key_file=files.peer, curve_clients_directory=files.sink.parent))
    assert as_client is not None
    assert as_server is not None
    assert as_client.server == as_server.public
    assert as_server.clients == frozenset({as_client.public})
    assert as_client.secret.decode() not in repr(as_client)
    open_to_all = read_keys(settings(bind=True, curve_key_file=files.peer, curve_any_client=True))
    assert open_to_all == CurveKeys(as_server.public, as_server.secret)
    assert read_keys(settings()) is None


def test_a_file_that_is_no_key_is_named_and_not_quoted(tmp_path: Path) -> None:
    """A missing file, one without a secret, one that is no certificate and an empty directory are each said."""
    files = certificates(tmp_path)
    bad = tmp_path / "bad.key_secret"
    bad.write_text('public-key = "not-forty-characters"\nsecret-key = "topsecret"\n')
    (tmp_path / "empty").mkdir()
    peer = {"curve_server_key_file": files.peer_public}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"curve_key_file": tmp_path / "none", **peer}, "curve_key_file .*none is not there"),
        ({"curve_key_file": files.sink_public, **peer}, "has no secret key; give the file whose name ends in .key_secret"),
        ({"curve_key_file": bad, **peer}, "not 40 characters of Z85"),
        (
            {"curve_key_file": files.sink, "bind": True, "curve_clients_directory": tmp_path / "empty"},
            "has no certificate",
        ),
    ]
    for options, said in cases:
        with pytest.raises(ConfigError, match=said) as raised:
            ZeroMqSink(settings(**options), FLOWS).read_files()
        assert "topsecret" not in str(raised.value)
