"""`blobtide collect`, as far as it gets without Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from libs.common.errors import ConfigError
from services.cli.main import blobtide
from tests.collector_world import LIST, request


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either a FILE or --template"),
        (["--template", "vms"], "--template requires --subscription"),
        (["--template", "vms", "--subscription", "a", "--set", "x"], "give NAME=VALUE"),
        (["--template", "vm", "--subscription", "a"], "'vm' is not one of"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], said: str) -> None:
    """Before anything is sent."""
    shown = CliRunner().invoke(blobtide, ("collect", *words))
    assert shown.exit_code == 2
    assert said in shown.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--template", "subnets", "--subscription", "a"], "resourceGroup, virtualNetwork must be given"),
        (
            ["--template", "sql-databases", "--subscription", "a", "--set", "resourcegroup=b"],
            "did you mean resourceGroup",
        ),
        (["--template", "vms", "--subscription", "a/b"], "parameters.subscriptionId: must not contain a slash"),
        (["--template", "vms", *[f"--subscription={number}" for number in range(1_001)]], "too many for one request"),
    ],
)
def test_calls_that_cannot_be_made_are_not_sent(words: list[str], said: str) -> None:
    """The reason says what to give instead."""
    error = CliRunner().invoke(blobtide, ("collect", *words)).exception
    assert isinstance(error, ConfigError)
    assert said in str(error)


def test_one_wrong_call_in_a_file_keeps_all_of_it_back(tmp_path: Path) -> None:
    """Whoever corrects the file sends it as a whole."""
    file = tmp_path / "requests.json"
    file.write_bytes(b"\n".join([request("m-1", LIST), request("m-2", LIST | {"method": "DELETE"})]))
    error = CliRunner().invoke(blobtide, ("collect", str(file))).exception
    assert isinstance(error, ConfigError)
    assert "request m-2: api_requests[0].method" in str(error)
