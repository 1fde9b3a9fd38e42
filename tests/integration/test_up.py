"""`blobtide up --demo` as somebody runs it for the first time, and for the second."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import yaml

from libs.common.errors import ConfigError
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.flows import FLOWS
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from services.cli.main import run
from services.cli.up.command import FOLDERS
from services.cli.up.settings import LOGS
from tests.delta_log import rows_of
from tests.fixtures.servers import serving
from tests.pipeline import read_rows, row_count
from tests.processes import below, command_of, is_alive
from tests.zeromq_peer import ZeroMqPeer

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(1_200)]

SECONDS = 180.0
SMALL = ("--nics", "3", "--pods", "0")
PODS = ("--pods", "2")  # of a proxy, and of an application
SIX_SINKS = Path(__file__).parents[2] / "docs" / "examples" / "six-sinks.yaml"
COLLECTING = Path(__file__).parents[2] / "docs" / "tutorial" / "collect-azure-configuration.md"
MORE_ROWS = 200
POSITION = FLOWS.position.names
SAID = ("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "action", "bytes_sent", "bytes_received", "rule")
Position = tuple[Any, ...]


@contextlib.contextmanager
def up(data: Path, *words: str, ends_with: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run `blobtide up --demo`; its output goes to out.txt in the data directory's parent."""
    with killed(data, *words) as process:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == ends_with, output(data)[-3000:]


@contextlib.contextmanager
def killed(data: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run it too, and kill it."""
    argv = (sys.executable, "-m", "services.cli.main", "up", "--demo", *SMALL, "--data-dir", str(data), *words)
    with (data.parent / "out.txt").open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(done: Callable[[], object], what: str, data: Path) -> None:
    """Wait for a condition, and show the output if it does not come."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"{what}\n{output(data)[-3000:]}"
        time.sleep(0.2)


def descendants(process: subprocess.Popen[bytes], word: str) -> list[psutil.Process]:
    """Return the service processes under `process` whose command line holds `word`."""
    commands = {child: command_of(child) for child in below(process.pid)}
    return [child for child, argv in commands.items() if "services.cli.main" in argv and word in argv and "-S" not in argv]


def test_the_demo_shows_flows_survives_kills_and_goes_on_in_the_next_run(
    kafka: LocalKafka, azurite: LocalAzurite, tmp_path: Path
) -> None:
    """Flows and logs arrive in Parquet; a killed service or server comes back; a second run adds to the rows.

    When `up` itself is killed, its servers and services are gone as well, and the next run starts.
    """
    del kafka, azurite  # they told whether the servers can be had
    data = tmp_path / "data"
    flows = data / "flows"
    with up(data, *PODS) as process:
        wait(lambda: flows.exists() and row_count(flows) > 0, "rows in files", data)
        wait(lambda: all((data / name).exists() and row_count(data / name) for name in LOGS), "rows of logs", data)
        os.kill(descendants(process, "parser")[0].pid, signal.SIGKILL)
        wait_for_more_rows(data, "more rows after a kill")
        wait(lambda: len(set(summed(data))) > 1, "a summary that grows", data)
        for name, word in (("azurite", "azurite"), ("kafka", "kafka.Kafka")):
            server_process(process, word).kill()
            wait_until_back(name, data)
            wait_for_more_rows(data, f"more rows after {name} is back")
    shown = (tmp_path / "out.txt").read_text()
    assert re.search(r"parser +restarting +killed by SIGKILL", shown)
    assert str(flows.absolute()) in shown
    assert re.search(r"bound (allow|deny) ", shown), "flows are shown"
    assert summed(data) == sorted(summed(data)), "the summary only grows"
    assert "Traceback" not in shown

    first, logs = read_rows(flows), {name: read_rows(data / name) for name in LOGS}
    with killed(data, *PODS) as process:
        wait(lambda: row_count(flows) > first.num_rows, "more rows in the second run", data)
        children = below(process.pid)
    assert len(children) >= 6
    wait(lambda: not any(is_alive(child) for child in children), "the end of all that a killed run started", data)
    second = read_rows(flows)
    assert_each_once(second, first)
    before = len(shown_parsed(data))
    for server in ("kafka", "azurite"):
        addresses = re.findall(rf"^{server} +ready +(\S+)$", output(data), re.MULTILINE)
        assert len(addresses) == 2
        assert len(set(addresses)) == 1, "the second run listens where the first did"
    with up(data, *PODS, "--start-over"):
        wait(lambda: max(shown_parsed(data)[before:], default=0) >= second.num_rows, "every blob parsed again", data)
    assert_each_once(read_rows(flows), second)
    for name, earlier in logs.items():
        assert_each_once(read_rows(data / name), earlier, APPLICATION.position.names)


def test_of_six_sinks_only_the_one_without_its_receiver_is_late(
    kafka: LocalKafka, azurite: LocalAzurite, tmp_path: Path
) -> None:
    """As in the guide: while a receiver is down, the others get every row; when it is back, it gets the same ones."""
    del kafka, azurite
    receiver = ZeroMqPeer(tmp_path / "receiver")
    place, config, data = tmp_path / "six-sinks", tmp_path / "six-sinks.yaml", tmp_path / "data"
    config.write_text(SIX_SINKS.read_text().replace("six-sinks/", f"{place}/").replace("5555", str(receiver.port)))
    place.mkdir()
    assert run(["sink-setup", "lake", "--config", str(config)]) == 0
    stores = {"table": partial(_in_table, place / "flows.db"), "lake": partial(_in_lake, place / "lake" / "table")}
    with serving(receiver), up(data, "--config", str(config)):
        wait(lambda: receiver.size and (place / "files").exists() and row_count(place / "files"), "rows everywhere", data)
        receiver.kill()
        received = _received(receiver)
        wait(lambda: row_count(place / "files") > len(received) + MORE_ROWS, "rows while the receiver is down", data)
        truth = _in_files(place / "files")
        for name, read in stores.items():
            wait(partial(_holds, truth, read), f"all rows in {name}", data)
        assert _received(receiver).keys() == received.keys() < truth.keys()
        receiver.start()
        wait(partial(_holds, truth, partial(_received, receiver)), "all rows at the receiver", data)
    for read in (*stores.values(), partial(_received, receiver)):
        found = read()
        assert {key: found[key] for key in truth} == truth
    for name in yaml.safe_load(config.read_text())["sinks"]:
        assert re.search(rf" {name} [1-9][\d,]* rows", output(data)), f"rows of {name} are shown"
    assert "Traceback" not in output(data)


def _holds(rows: Mapping[Position, str], read: Callable[[], Mapping[Position, str]]) -> bool:
    return rows.keys() <= read().keys()


def _in_files(directory: Path) -> dict[Position, str]:
    return _by_position(read_rows(directory).to_pylist())


def _in_table(file: Path) -> dict[Position, str]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return _by_position([dict(row) for row in database.execute("SELECT * FROM flows")])


def _in_lake(table: Path) -> dict[Position, str]:
    rows = rows_of(table)
    return {} if rows is None else _by_position(rows.to_pylist())


def _received(receiver: ZeroMqPeer) -> dict[Position, str]:
    messages = {message.header["id"]: json.loads(message.payload) for message in receiver.received()}
    return _by_position(list(messages.values()))


def _by_position(rows: Sequence[Mapping[str, Any]]) -> dict[Position, str]:
    """Return what each row says of its flow, by its position, which must be there once."""
    found = {tuple(row[name] for name in POSITION): " ".join(str(row.get(name)) for name in SAID) for row in rows}
    assert len(found) == len(rows), "a row stands twice"
    return found


def summed(data: Path) -> list[int]:
    """Return the number of flows above each summary that was shown."""
    return [
        int(count.replace(",", "")) for count in re.findall(r"^([\d,]+) flows until .* by bytes$", output(data), re.MULTILINE)
    ]


def shown_parsed(data: Path) -> list[int]:
    """Return the counts of parsed tuples that were shown."""
    return [int(count.replace(",", "")) for count in re.findall(r"tuples parsed ([\d,]+)", output(data))]


def output(data: Path) -> str:
    """Return what was shown."""
    return (data.parent / "out.txt").read_text()


def assert_each_once(rows: pa.Table, earlier: pa.Table, position: Sequence[str] = POSITION) -> None:
    """No row stands twice, and none of the earlier ones is missing."""
    keys = list(position)
    assert rows.group_by(keys).aggregate([]).num_rows == rows.num_rows, "no row twice"
    assert earlier.select(keys).join(rows.select(keys), keys, join_type="left anti").num_rows == 0, "no row lost"


def wait_until_back(server: str, data: Path) -> None:
    """Wait until the output says that a server ended and is ready again."""
    said = re.compile(rf"^{server} +restarting .*\n(.*\n)*{server} +ready", re.MULTILINE)
    wait(lambda: said.search(output(data)), f"{server} is back", data)


def wait_for_more_rows(data: Path, what: str) -> None:
    """Wait until there are more rows in files than now."""
    seen = row_count(data / "flows")
    wait(lambda: row_count(data / "flows") > seen, what, data)


def server_process(process: subprocess.Popen[bytes], word: str) -> psutil.Process:
    """Return the server under `process` whose command line holds `word`, not what guards it."""
    commands = {child: command_of(child) for child in below(process.pid)}
    return next(child for child, argv in commands.items() if any(word in part for part in argv) and "-S" not in argv)


def test_a_fresh_run_forgets_the_first_and_no_other_cluster(
    kafka: LocalKafka, azurite: LocalAzurite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--fresh` deletes what an earlier run has left, and nothing else.

    Settings for a cluster with TLS and SASL do not reach that one, nor keep services from the Kafka that `up` brings. With
    `--mock`, resources and snapshots arrive in files, and the line that `up` prints collects more.
    """
    del kafka, azurite
    data = tmp_path / ".blobtide"
    for folder in FOLDERS:
        (data / folder).mkdir(parents=True)
        (data / folder / "of-the-first-run").touch()
    (data / "mine").touch()
    config = tmp_path / "my.yaml"
    config.write_text("kafka: {bootstrap_servers: 'broker:9092', security_protocol: SASL_SSL, sasl_username: me}")
    with up(data, "--fresh", "--config", str(config), "--mock"):
        wait(lambda: (data / "flows").exists() and row_count(data / "flows") > 0, "rows in the next run", data)
        wait(lambda: '"name":"nic-2"' in lines_in(data / "resources"), "resources in files", data)
        line = re.search(r"^collect with +(.*)$", output(data), re.MULTILINE)
        assert line is not None
        assert run(shlex.split(line[1])[1:]) == 0
        asked = capsys.readouterr().out.strip()
        wait(lambda: progress_of(asked, data).get("status") == "success", "the answer to a request", data)
        wait(lambda: list((data / "snapshots").glob("*_flowinfo_json.zip")), "snapshots in a zip", data)
        for program in programs_in(COLLECTING):
            assert "nic-" in subprocess.check_output((sys.executable, "-c", program), cwd=tmp_path, text=True, timeout=60)
    assert [path.name for path in data.rglob("of-the-first-run")] == [], "--fresh has forgotten the first run"
    assert (data / "mine").exists(), "--fresh deletes nothing that is not its own"
    assert "kafka.bootstrap_servers broker:9092 is ignored" in output(data)
    assert re.search(r"resources collected [1-9].* snapshots [1-9]", output(data))


def progress_of(request: str, data: Path) -> dict[str, Any]:
    """Ask for the progress of a request as the line does that was shown, for which this machine may lack the program."""
    shown = r'^and ask with +curl --header "Authorization: Bearer \$\(cat (\S+)\)" http://(\S+):(\d+)(\S+)ID$'
    line = re.search(shown, output(data), re.MULTILINE)
    assert line is not None
    with contextlib.closing(HTTPConnection(line[2], int(line[3]), timeout=60)) as connection:
        connection.request("GET", line[4] + request, headers={"Authorization": f"Bearer {Path(line[1]).read_text()}"})
        progress: dict[str, Any] = json.loads(connection.getresponse().read())
        return progress


def lines_in(directory: Path) -> str:
    """Return what is in files of lines."""
    return "".join(file.read_text() for file in directory.glob("*.ndjson"))


def programs_in(page: Path) -> list[str]:
    """Return the Python programs that a page shows."""
    return re.findall(r"python - <<'EOF'\n(.*?)^EOF$", page.read_text(), re.MULTILINE | re.DOTALL)


class _SaysNo(BaseHTTPRequestHandler):
    """A destination that does not let us in."""

    def do_GET(self) -> None:
        """Refuse."""
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def says_no() -> Iterator[str]:
    """Return the address of such a destination."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _SaysNo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_sink_that_cannot_run_killed_guards_and_a_broker_that_hangs_do_not_end_up(
    kafka: LocalKafka, azurite: LocalAzurite, says_no: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else goes on, each row once; what is wrong is shown and makes the exit code; no secret is seen from outside."""
    del kafka, azurite
    data, config = tmp_path / "data", tmp_path / "my.yaml"
    flows = data / "flows"
    config.write_text(
        f"sinks:\n  file: {{directory: {flows}, rotate_seconds: 5}}\n  search: {{kind: elasticsearch, hosts: ['{says_no}']}}\n"
        "subscriptions: {lab: {environments: {far: {storage: {account_url: 'http://127.0.0.1:9/far'},"
        " sources: [{container: logs}]}}}}"
    )
    monkeypatch.setenv("BLOBTIDE_SINKS__SEARCH__API_KEY", "canary-of-the-sink")
    monkeypatch.setenv("BLOBTIDE_SUBSCRIPTIONS__LAB__ENVIRONMENTS__FAR__STORAGE__ACCOUNT_KEY", "Y2FuYXJ5")
    with up(data, "--config", str(config), ends_with=ConfigError.exit_code) as process:
        wait(lambda: flows.exists() and row_count(flows) > 0, "rows in files", data)
        wait(lambda: re.search(r"^sink-search +failed +.*denies the sign-in", output(data), re.MULTILINE), "said", data)
        seen = {child.pid: (child.environ(), child.cmdline()) for child in below(process.pid) if is_alive(child)}
        assert len(seen) >= 12, "servers, services and their guards"
        assert not [pid for pid, what in seen.items() if "canary" in str(what) or "Y2FuYXJ5" in str(what)]
        for word in ("parser", "ingest"):
            service = descendants(process, word)[0]
            guard_of(service).kill()
            wait(partial(ended, service), "the end of the service", data)
        wait_for_more_rows(data, "more rows after guards were killed")
        guard_of(server_process(process, "kafka.Kafka")).kill()
        wait_until_back("kafka", data)
        wait_for_more_rows(data, "more rows after Kafka is back")
        broker = server_process(process, "kafka.Kafka")
        broker.suspend()
        wait(lambda: "its consumer groups have not worked for" in output(data), "the broker is started again", data)
        wait(partial(ended, broker), "the end of the broker that hangs", data)
        wait_for_more_rows(data, "more rows after its groups were lost")
        assert "no progress since" in output(data)
    assert re.search(r"^blobtide: sink-search was unable to run: .*sign-in", output(data), re.MULTILINE)
    assert "Traceback" not in output(data)
    rows = read_rows(flows)
    assert_each_once(rows, rows)


def ended(process: psutil.Process) -> bool:
    """Tell whether a process is gone."""
    return not is_alive(process)


def guard_of(process: psutil.Process) -> psutil.Process:
    """Return what stands between `up` and a service or server."""
    guard = process.parent()
    assert guard is not None
    assert "-S" in command_of(guard)
    return guard


def test_ctrl_c_while_kafka_starts_is_a_stop(kafka: LocalKafka, tmp_path: Path) -> None:
    """`up` ends at once, in order and with exit code 0, when it is interrupted before anything runs."""
    del kafka
    data = tmp_path / "data"
    shown = tmp_path / "out.txt"
    with up(data):
        wait(lambda: "kafka          starting" in shown.read_text(), "Kafka is being started", data)
    assert "stopped; data is kept in" in shown.read_text()
    assert "Traceback" not in shown.read_text()
