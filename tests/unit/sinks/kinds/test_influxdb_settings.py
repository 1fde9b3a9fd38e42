"""Settings of the influxdb sink, and the requests that follow from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.http.client import Answer, Request
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.kind import Promise
from services.sinks.kinds.influxdb.api import Setup, Target
from services.sinks.kinds.influxdb.settings import InfluxSettings
from services.sinks.kinds.influxdb.sink import InfluxSink


def settings(**options: Any) -> InfluxSettings:
    """Return settings with these options."""
    return InfluxSettings.model_validate(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": "influx:8086"}, "give addresses as http"),
        ({"hosts": "http://u:p@influx"}, "not in the address"),
        ({"token": "t", "username": "u", "password": "p"}, "give only one way to sign in"),
        ({"password": "p"}, "must be given together"),
        ({"api": "v1", "token": "t"}, "token is for api v2 and v3"),
        ({"measurement": "_internal"}, "measurement"),
        ({"measurement": "a\nb"}, "measurement"),
        ({"measurement": 'a"b'}, "measurement"),
        ({"database": ""}, "database"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    """Addresses, ways to sign in and names are checked when settings are read."""
    with pytest.raises(ValidationError, match=said):
        settings(**options)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"api": "v1", "database": "a b"}, "/write?db=a+b&precision=ns"),
        ({"api": "v1", "retention_policy": "r&p"}, "/write?db=blobtide&rp=r%26p&precision=ns"),
        ({"org": "o", "bucket": "b/c"}, "/api/v2/write?org=o&bucket=b%2Fc&precision=ns"),
        ({"api": "v3"}, "/api/v3/write_lp?db=blobtide&precision=nanosecond&accept_partial=true&no_sync=false"),
    ],
)
def test_points_go_to_the_path_of_the_version(options: dict[str, Any], path: str) -> None:
    """Names stand in the query, quoted, and the precision is said."""
    assert Target.of(settings(**options)).path == path


def test_each_version_has_its_way_to_sign_in() -> None:
    """Version 1 has users, version 2 its own kind of token, version 3 a bearer token."""
    user, token = {"username": "u", "password": "p"}, {"token": "t"}
    assert settings(api="v1", **user).sign_in() == {"Authorization": "Basic dTpw"}
    assert settings(api="v2", **token).sign_in() == {"Authorization": "Token t"}
    assert settings(api="v3", **token).sign_in() == {"Authorization": "Bearer t"}
    assert settings().sign_in() == {}


def test_credentials_go_over_tls_only(tmp_path: Path) -> None:
    """A token for another machine needs TLS, unless that is waived."""
    with pytest.raises(ConfigError, match="unencrypted"):
        InfluxSink(settings(hosts="http://influx", token="secret"), FLOWS).read_files()  # noqa: S106
    (tmp_path / "token").write_text("secret\n")
    for more in ({"hosts": "https://influx"}, {"hosts": "http://influx", "allow_plaintext_credentials": True}, {}):
        InfluxSink(settings(token_file=tmp_path / "token", **more), FLOWS).read_files()


def test_only_a_server_that_replaces_points_makes_it_effectively_once() -> None:
    """What is promised follows from what the operator says of the server."""
    assert InfluxSink(settings(), FLOWS).promise is Promise.EFFECTIVELY_ONCE
    assert InfluxSink(settings(overwrites=False), FLOWS).promise is Promise.AT_LEAST_ONCE


class _Recorded:
    """Answers requests from a list, and keeps what was asked."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = [Answer(status, json.dumps(body).encode()) for status, body in answers]
        self.asked: list[tuple[str, str, Any]] = []

    def send(self, request: Request) -> Answer:
        self.asked.append((request.method, request.path, None if request.body is None else json.loads(request.body)))
        return self.answers[len(self.asked) - 1]


def run(recorded: _Recorded, **options: Any) -> str:
    """Run the set-up against recorded answers."""
    client: Any = recorded
    return Setup(client, settings(**options)).run()


def test_a_bucket_is_created_in_its_organization() -> None:
    """Version 2 is asked for the bucket, then for the organization's id, and gets the days of retention in seconds."""
    recorded = _Recorded((404, {"code": "not found"}), (200, {"orgs": [{"id": "0f", "name": "o"}]}), (201, {"id": "1"}))
    assert run(recorded, org="o", bucket="b", retention_days=2) == "created the bucket b"
    rules = [{"type": "expire", "everySeconds": 172_800}]
    assert recorded.asked == [
        ("GET", "/api/v2/buckets?org=o&name=b", None),
        ("GET", "/api/v2/orgs?org=o", None),
        ("POST", "/api/v2/buckets", {"orgID": "0f", "name": "b", "retentionRules": rules}),
    ]
    assert run(_Recorded((200, {"buckets": [{"id": "1"}]})), bucket="b") == "bucket b is there"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([(401, {"code": "unauthorized", "message": "unauthorized access"})], "denies the sign-in"),
        ([(403, {"code": "forbidden", "message": "no"})], "denies the right"),
        ([(200, {"buckets": []}), (200, {"orgs": []})], "no organization blobtide that this token may see"),
        (
            [(404, {}), (200, {"orgs": [{"id": "0f"}]}), (422, {"message": "exists"})],
            "does not create the bucket blobtide: exists",
        ),
    ],
)
def test_a_set_up_that_is_not_allowed_is_the_operators_business(answers: list[tuple[int, Any]], said: str) -> None:
    """What is missing is said in the server's words."""
    with pytest.raises(ConfigError, match=said):
        run(_Recorded(*answers))


def test_a_set_up_of_a_server_that_is_not_ready_may_be_repeated() -> None:
    """429 and 5xx are no mistake of the operator's."""
    for status in (429, 500):
        with pytest.raises(ServerUnreachable, match=f"answers {status}"):
            run(_Recorded((status, {"error": "busy"})))
