"""Settings of the redis sink, and secrets of all sinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.secrets import read_secret
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.redis.sink import RedisSettings, RedisSink


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:6379"}, "redis://"),
        ({"url": "http://localhost"}, "redis://"),
        ({"url": "redis://:hunter2@localhost"}, "not in the address"),
        ({"url": "redis://localhost?ssl_cert_reqs=none"}, "redis://"),
        ({"url": "redis://localhost:hunter2/0"}, "port must be a number"),
        ({"url": "redis://localhost:99999/0"}, "port must be a number"),
        ({"url": "redis://localhost/3", "cluster": True}, "only has database 0"),
        ({"cluster": True, "mode": "pubsub"}, "give the address of any node, without cluster"),
        ({"mode": "pubsub", "channel": "{nothing}"}, r"sinks\.redis\.channel: unknown column nothing"),
        ({"mode": "pubsub", "channel": ""}, "channel"),
        ({"prefix": "{a}"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"mode": "lists"}, "mode"),
        ({"username": "u"}, "must be given together"),
        ({"ttl_second": 5}, "did you mean ttl_seconds"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    """A wrong option is refused by name, without showing a secret."""
    with pytest.raises(ConfigError, match=message) as raised:
        configured_sink({"redis": options}, "redis")
    assert "hunter2" not in str(raised.value)


def test_defaults_are_valid() -> None:
    """The sink can be built without any option, and closed without having been opened."""
    RedisSink(RedisSettings(), FLOWS).close()


def test_a_secret_comes_from_a_value_or_a_file(tmp_path: Path) -> None:
    """The value is taken as it is, the file without its line end, neither gives None."""
    (tmp_path / "f").write_text("pa ss\n", encoding="utf-8")
    assert read_secret("password", SecretStr("x"), None) == "x"
    assert read_secret("password", None, tmp_path / "f") == "pa ss"
    assert read_secret("password", None, None) is None


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Both at once, a missing, an empty and a binary file are refused, naming the setting."""
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="password or password_file, not both"):
        read_secret("password", SecretStr("x"), tmp_path / "empty")
    for name in ("missing", "empty", "binary"):
        with pytest.raises(ConfigError, match=rf"password_file .*{name}"):
            read_secret("password", None, tmp_path / name)
