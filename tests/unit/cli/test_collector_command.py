"""`blobtide collector`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from libs.common.errors import BlobtideError
from services.cli.main import blobtide
from services.collector.requests.templates import TEMPLATES
from tests.collector_world import LIST, request


def run(*words: str, given: bytes = b"") -> Result:
    """Run `blobtide collector`; an error that it raises on purpose is in the result."""
    return CliRunner().invoke(blobtide, ("collector", *words), input=given)


def test_templates_are_listed_and_printed() -> None:
    """A line each, and one for the headings; one template is the JSON of a call."""
    lines = run("templates").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(TEMPLATES)
    assert json.loads(run("templates", "vms").stdout)["parameters"] == {"subscriptionId": "<subscriptionId>"}
    assert "did you mean vms?" in str(run("templates", "vm").exception)


def test_examples_can_be_checked_as_they_are_printed() -> None:
    """What comes of them is shown, a line a call."""
    printed = run("examples").stdout_bytes
    shown = run("check", "-", given=printed)
    assert shown.exit_code == 0, shown.exception
    calls = sum(len(json.loads(line)["api_requests"]) for line in printed.splitlines())
    assert len(shown.stdout.splitlines()) == calls
    assert "POST /providers/Microsoft.ResourceGraph/resources?api-version=" in shown.stdout


def test_one_request_may_take_several_lines(tmp_path: Path) -> None:
    """A file for people is as good as lines for programs; a method besides GET must be allowed."""
    call = {"service": "compute", "api_version": "2024-07-01", "resource_path": "/subscriptions/a", "method": "DELETE"}
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"message_id": "m", "api_requests": [call]}, indent=2))
    refused = run("check", str(file))
    assert "refused: api_requests[0].method" in refused.stdout
    assert isinstance(refused.exception, BlobtideError)
    assert refused.exception.exit_code == 1
    assert "DELETE /subscriptions/a" in run("check", "--allow", "DELETE", str(file)).stdout


def test_what_a_collector_fills_in_may_be_left_open_on_demand() -> None:
    """The call is shown with a value that stands for it."""
    path = "/subscriptions/{subscriptionId}/providers/Microsoft.Compute/virtualMachines"
    given = request("m", LIST | {"resource_path": path, "parameters": {}})
    assert "no value for {subscriptionId}" in run("check", "-", given=given).stdout
    assert "GET /subscriptions/of-the-collector/providers" in run("check", "--defaults", "-", given=given).stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "holds no request"),
        (b"\n\n", "holds no request"),
        (b"\n[]\n", "not a request"),
        (b'{"message_id":\n', "line 1: not JSON"),
        (b"[" * 2_000_000, "too large"),
        (b"x\n" * 600_000, "too large"),
    ],
)
def test_what_is_no_request_is_refused_with_its_place(given: bytes, said: str) -> None:
    """In one sentence."""
    assert said in str(run("check", "-", given=given).exception)


def test_long_files_are_read_line_by_line() -> None:
    """More than one read, and a last line without an end."""
    line = run("examples").stdout_bytes.splitlines()[0]
    shown = run("check", "-", given=b"\n".join([line] * 3_000))
    assert shown.exit_code == 0, shown.exception
    assert len(shown.stdout.splitlines()) == 3_000
