"""`blobtide demo generate`: where to, from when, how long."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from services.cli.demo import command, playing
from services.cli.demo.asked import Asked

NOW = datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC)


def run(*words: str) -> BlobtideError:
    """Run the command and return the error that it ends with."""
    result = CliRunner().invoke(command.command, ["generate", *words], catch_exceptions=True)
    assert isinstance(result.exception, BlobtideError), result.output
    assert "\n" not in str(result.exception)
    return result.exception


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--connection-string"),
        (("--connection-string", "x", "--environment", "a.b"), "give exactly one of"),
        (("--kind", "applogs", "--connection-string", "x", "--directory", "y"), "give exactly one of"),
        (("--kind", "applogs"), "--directory"),
        (("--connection-string", "nonsense"), "neither AccountName nor BlobEndpoint"),
        (("--connection-string", "AccountName=a;AccountKey=?"), "not an account key"),
        (("--connection-string-file", "/no/such/file"), "cannot read connection_string_file"),
        (("--environment", "no.where"), "environments in the settings: none"),
        (("--connection-string", "x", "--start", "yesterday"), "--start yesterday"),
        (("--connection-string", "x", "--minutes", "3", "--hours", "3"), "not both"),
        (("--connection-string", "x", "--follow", "--start=-3h", "--minutes", "3"), "give either --start, or the history"),
        (("--connection-string", "x", "--follow", "--start=-3h", "--hours", "3"), "give either --start, or the history"),
        (("--connection-string", "x", "--start=-99999999h"), "outside the calendar"),
        (("--connection-string", "x", "--start=-99999999999h"), "give a time such as"),
        (("--connection-string", "x", "--minutes", "9999999999"), "outside the calendar"),
        (("--connection-string", "x", "--follow", "--hours", "9999999999"), "outside the calendar"),
        (("--connection-string", "x", "--start", "9999-12-31T23:59:00Z", "--minutes", "5"), "outside the calendar"),
        (("--connection-string", "x", "--start", "0001-01-01T00:00:00+02:00"), "outside the calendar"),
        (("--connection-string", "x", "--truth", "flows.txt"), "name it .parquet or .ndjson"),
        (("--connection-string", "x", "--truth", "/no/such/flows.ndjson"), "cannot write"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every wrong option ends with one line that says what to do."""
    monkeypatch.setenv("HOME", str(tmp_path))
    error = run(*words)
    assert isinstance(error, ConfigError)
    assert says in str(error)


def test_unreachable_storage_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that does not answer ends the command soon, naming the address and no key."""
    monkeypatch.setattr(playing, "FIRST_CONTACT_SECONDS", 0.1)
    endpoint = "http://127.0.0.1:9/devstoreaccount1"
    error = run("--connection-string", f"AccountName=devstoreaccount1;AccountKey=c2VjcmV0;BlobEndpoint={endpoint}")
    assert isinstance(error, ServerUnreachable)
    assert "127.0.0.1:9" in str(error)
    assert "does not respond" in str(error)
    assert "check that storage (or Azurite) is running, and the endpoint of the connection string" in str(error)
    assert "c2VjcmV0" not in str(error)


@pytest.mark.parametrize(
    ("words", "start", "minutes"),
    [
        ({}, "2026-05-01T11:00", 60),
        ({"hours": 3}, "2026-05-01T09:00", 180),
        ({"start": "-90m", "minutes": 5}, "2026-05-01T11:04", 5),
        ({"start": "2026-04-30T23:59:30+02:00", "minutes": 1}, "2026-04-30T21:59", 1),
        ({"start": "2026-04-30T23:59:30", "minutes": 1}, "2026-04-30T23:59", 1),
        ({"start": "2026-04-30", "minutes": 1}, "2026-04-30T00:00", 1),
        ({"follow": True}, "2026-05-01T12:00", None),
        ({"follow": True, "hours": 2}, "2026-05-01T10:00", None),
        ({"follow": True, "start": "-3h"}, "2026-05-01T09:00", None),
    ],
)
def test_the_period_is_what_was_asked_for(words: dict[str, Any], start: str, minutes: int | None) -> None:
    """Without a start all has just happened; following begins at a full hour and has no end."""
    options = {"start": None, "minutes": None, "hours": None, "follow": False} | words
    first, count = command._period(asked(options), NOW)
    assert first == datetime.fromisoformat(f"{start}:00+00:00")
    assert count == minutes


def asked(options: dict[str, Any]) -> Asked:
    """Return what the command line would say."""
    unused: dict[str, Any] = dict.fromkeys(Asked.__dataclass_fields__)
    return Asked(**(unused | options))
