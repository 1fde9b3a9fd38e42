"""Settings of destinations that are reached over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from libs.common.errors import ConfigError
from services.sinks.frame.http import HttpHostsSettings, HttpTokenSettings

SECRET = "hunter2"  # noqa: S105


class Own(HttpTokenSettings):
    """Settings of a kind that has a default address."""

    hosts: tuple[str, ...] = Field(default=("http://127.0.0.1:80",), min_length=1, description="URLs.")


def own(**options: Any) -> Own:
    """Return settings with these options."""
    return Own.model_validate(options)


@pytest.mark.parametrize("hosts", ["http://a:1, http://b:2/es", ["http://a:1", "http://b:2/es"]])
def test_hosts_are_a_list_or_comma_separated(hosts: object) -> None:
    """One address, or several with commas, need no brackets."""
    assert own(hosts=hosts).hosts == ("http://a:1", "http://b:2/es")
    assert own(hosts="http://[::1]:9200").hosts == ("http://[::1]:9200",)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("h:8123", "give addresses as http"),
        ("localhost", "give addresses as http"),
        ("ftp://h", "give addresses as http"),
        ("http://", "give addresses as http"),
        ("http://[h", "give addresses as http"),
        ("http://h?query=x", "give addresses as http"),
        ("http://h#x", "give addresses as http"),
        ("http://h/ x", "give addresses as http"),
        ("http://h/\r\nX: y", "give addresses as http"),
        ("http://h/a,", "give addresses as http"),
        (f"http://user:{SECRET}@h", "not in the address"),
        (f"http://h:{SECRET}", "port must be a number from 1 to 65535"),
        ("http://h:0", "port must be a number from 1 to 65535"),
        ("http://h:65536", "port must be a number from 1 to 65535"),
    ],
)
def test_an_address_has_a_scheme_and_a_plausible_port_and_no_login(host: str, said: str) -> None:
    """A wrong address is refused without being quoted, since it may contain a password."""
    with pytest.raises(ValidationError, match=said) as raised:
        own(hosts=[host])
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("hosts", [[], "", "http://a,"])
def test_at_least_one_host_is_needed_and_none_is_empty(hosts: object) -> None:
    """An empty list, an empty text and a trailing comma are refused."""
    with pytest.raises(ValidationError, match="hosts"):
        own(hosts=hosts)


def test_a_kind_without_a_default_address_requires_one() -> None:
    """The shared group assumes no address."""
    with pytest.raises(ValidationError, match="hosts"):
        HttpHostsSettings.model_validate({})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": "u"}, "must be given together"),
        ({"password": SECRET}, "must be given together"),
        (
            {"username": "u", "password": SECRET, "bearer_token": SECRET},
            "only one way to sign in, not bearer_token and password",
        ),
        ({"username": "u", "password": SECRET, "bearer_token_file": "f"}, "only one way to sign in"),
    ],
)
def test_one_way_to_sign_in_is_enough_and_complete(options: dict[str, Any], said: str) -> None:
    """A user without a password, a password without a user, and two ways at once are refused."""
    with pytest.raises(ValidationError, match=said):
        own(**options)


def test_secrets_become_headers(tmp_path: Path) -> None:
    """User and password, or a token, sign in; each may come from a file; without any, nothing is sent."""
    (tmp_path / "token").write_text(SECRET, encoding="utf-8")
    assert own().cluster("x").headers == {}
    assert own(username="u", password="p").cluster("x").headers == {"Authorization": "Basic dTpw"}  # noqa: S106
    assert own(bearer_token_file=tmp_path / "token").cluster("x").headers == {"Authorization": f"Bearer {SECRET}"}


def test_the_cluster_has_all_that_was_set(tmp_path: Path) -> None:
    """Addresses, time limit, TLS files and the number of connections are passed on."""
    authority = tmp_path / "ca.pem"
    authority.touch()
    cluster = own(hosts="https://a,https://b", timeout_seconds=7, ca_file=authority, verify=False).cluster("x", 3)
    assert (cluster.addresses, cluster.timeout_seconds, cluster.connections) == (("https://a", "https://b"), 7.0, 3)
    assert (cluster.tls.verify, cluster.tls.ca_file) == (False, authority)


@pytest.mark.parametrize("login", [{"username": "u", "password": SECRET}, {"bearer_token": SECRET}])
def test_credentials_go_only_over_tls(login: dict[str, str]) -> None:
    """Credentials for another machine need TLS, unless that is waived."""
    with pytest.raises(ConfigError, match="x: credentials would go to http://h unencrypted") as raised:
        own(hosts="http://h,https://h", **login).cluster("x")
    assert SECRET not in str(raised.value)
    for more in (
        {"hosts": "https://h"},
        {"hosts": "http://h", "allow_plaintext_credentials": True},
        {"hosts": "http://127.0.0.1"},
    ):
        own(**login, **more).cluster("x")


def test_credentials_that_a_request_carries_need_tls_too() -> None:
    """A kind that signs in with a request instead of a header is held to the same rule."""

    class Requesting(Own):
        def sign_in(self) -> dict[str, str]:
            return {}

    with pytest.raises(ConfigError, match="unencrypted"):
        Requesting.model_validate({"hosts": "http://h", "username": "u", "password": SECRET}).cluster("x")


@pytest.mark.parametrize("option", ["password_file", "bearer_token_file", "ca_file"])
def test_missing_files_are_named(tmp_path: Path, option: str) -> None:
    """Files of secrets and authorities are looked for before anything is connected."""
    user = {"username": "u"} if option == "password_file" else {}
    with pytest.raises(ConfigError, match="nothing"):
        own(hosts="https://h", **user, **{option: tmp_path / "nothing"}).cluster("x")
