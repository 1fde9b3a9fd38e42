"""What commands print for people."""

from __future__ import annotations

import ast
import base64
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from services.cli import terminal
from services.cli.main import run
from tests.unit.parser.test_kernel import GOOD, envelope, vnet

CLI = Path(terminal.__file__).parent
EVIL = "\x1b[2J\u202e\u009b\u2028\u200f"
SHOWN = r"\u001b[2J\u202e\u009b\u2028\u200f"


def test_errors_of_commands_hold_no_secrets_and_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that somebody else chose is quoted as it can be read, a connection string without its key."""
    assert run(["sink-setup", f"x{EVIL}AccountKey=hunter2"]) == 2
    said = capsys.readouterr().err
    assert SHOWN in said
    assert "hunter2" not in said
    assert not set(EVIL) - {"[", "2", "J"} & set(said)


def test_only_one_module_prints() -> None:
    """Whatever a command says goes through `terminal`, which takes out what must not be seen; help is our own text."""
    used = {
        path.name
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"echo", "secho"}
    }
    assert used == {"terminal.py", "help.py"}


def test_a_defect_is_a_traceback_without_secrets() -> None:
    """Also of a command that writes no log."""
    code = (
        "import services.cli.main as m\n"
        "def broken(*_, **__): raise RuntimeError('sig=hunter2')\n"
        "m.blobtide.main = broken\n"
        "m.main()"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: sig=***" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("form", ["ndjson", "csv", "table"])
def test_rows_on_a_terminal_cannot_steer_it(form: str, tmp_path: Path) -> None:
    """Every format shows escapes on a terminal, whatever a rule is called; into a pipe NDJSON and CSV go as they are."""
    record = vnet(GOOD)
    record["flowRecords"]["flows"][0]["flowGroups"][0]["rule"] = EVIL
    file = tmp_path / "PT1H.json"
    file.write_bytes(envelope(record))
    argv = (sys.executable, "-m", "services.cli.main", "convert", str(file), "--format", form)
    main, end = pty.openpty()
    done = subprocess.run(argv, stdout=end, stderr=subprocess.DEVNULL, check=False, env={**os.environ, "COLUMNS": "400"})
    os.close(end)
    on_terminal = os.read(main, 1 << 16).decode()
    os.close(main)
    assert done.returncode == 0
    assert r"\u202e" in on_terminal
    assert not set(EVIL) - {"[", "2", "J"} & set(on_terminal)
    piped = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    assert ("\u202e" in piped) is (form != "table")


class _Quoting(BaseHTTPRequestHandler):
    """Refuses everything and quotes what it was asked, as a proxy may that is to help with finding errors."""

    def do_PUT(self) -> None:
        given = self.headers["Authorization"]
        answer = f"no: {given} {EVIL} and plain {base64.b64decode(given.split()[1])!r}"
        self.send_response(400)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def test_the_answer_of_a_server_is_quoted_without_what_we_signed_in_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sink-setup` shows what the cluster said, so that one can see what is wrong, but no credential in any form."""
    server = HTTPServer(("127.0.0.1", 0), _Quoting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sinks = {
        "elasticsearch": {"hosts": [f"http://127.0.0.1:{server.server_port}"], "username": "me", "password": "hunter2-hunter2"}
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"sinks": sinks}))
    try:
        assert run(["sink-setup", "elasticsearch", "--config", str(config)]) == 2
    finally:
        server.shutdown()
        server.server_close()
    said = capsys.readouterr().err
    assert "the cluster answered 400 to the index template: no: Basic ***" in said
    assert "and plain b'me:***'" in said
    assert SHOWN.replace(r"\u2028", " ") in said
    assert base64.b64encode(b"me:hunter2-hunter2").decode() not in said
