"""Settings of the fluent sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.fluent.settings import FluentSettings
from services.sinks.kinds.fluent.sink import FluentSink

KEY = {"shared_key": "secret key"}


def settings(**options: Any) -> FluentSettings:
    """Return settings with these options."""
    return FluentSettings.model_validate(options)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("h:24224", "give addresses as tcp://host"),
        ("http://h", "give addresses as tcp://host"),
        ("tcp://", "give addresses as tcp://host"),
        ("tcp://h/path", "give addresses as tcp://host"),
        ("tcp://h:99999", "the port must be a number"),
        ("tls://user:secret@h", "not in the address"),
    ],
)
def test_an_address_is_a_host_and_a_port(host: str, said: str) -> None:
    """Only tcp and tls addresses are taken, one or several, and what is wrong is said without quoting it."""
    assert settings(hosts="tcp://a, tls://b:1").hosts == ("tcp://a", "tls://b:1")
    with pytest.raises(ValidationError, match=said):
        settings(hosts=host)


def test_a_login_goes_with_a_key() -> None:
    """The protocol has no sign-in without a key, and a password needs its user."""
    with pytest.raises(ValidationError, match="username goes with shared_key"):
        settings(username="u", password="p")  # noqa: S106
    with pytest.raises(ValidationError, match="must be given together"):
        settings(password="p", **KEY)  # noqa: S106
    assert settings(username="u", password="p", **KEY).username == "u"  # noqa: S106


def test_a_key_is_proved_over_tls_only(tmp_path: Path) -> None:
    """A key for another machine needs TLS, unless that is waived; files that are of no use are named."""
    with pytest.raises(ConfigError, match="unencrypted"):
        FluentSink(settings(hosts="tls://a, tcp://b", **KEY), FLOWS).read_files()
    for more in ({"hosts": "tls://b"}, {"hosts": "tcp://b", "allow_plaintext_credentials": True}, {"hosts": "tcp://127.0.0.1"}):
        FluentSink(settings(**KEY, **more), FLOWS).read_files()
    with pytest.raises(ConfigError, match=r"ca_file .*nothing does not exist"):
        FluentSink(settings(hosts="tls://b", ca_file=tmp_path / "nothing"), FLOWS).read_files()
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="ca_file, cert_file or key_file cannot be used"):
        FluentSink(settings(hosts="tls://b", ca_file=tmp_path / "ca.pem"), FLOWS).read_files()


def test_formats_and_tags_that_do_not_fit_are_refused_at_the_start() -> None:
    """A record has members, so csv is none; ecs is for flows; a tag names columns that exist."""
    for row_type, options, said in (
        (FLOWS, {"format": "csv"}, "format: csv is not made of columns; choose one of json, ecs"),
        (DEAD_LETTERS, {"format": "ecs"}, "format: ecs is not available for dead_letters"),
        (FLOWS, {"tag": "a.{srcip}"}, "tag: unknown column srcip; did you mean src_ip"),
        (FLOWS, {"format": "ecs", "rename": {"src_ip": "a"}}, "rename: the names of ecs are fixed"),
    ):
        with pytest.raises(ConfigError, match=said):
            FluentSink(settings(**options), row_type)
