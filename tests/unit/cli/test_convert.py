"""`blobtide convert`: the kernel on local files."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from services.cli import convert, convert_input
from services.cli.convert import command
from services.parser.kernel import parse
from tests.parser_oracle import rows_of
from tests.samples import SAMPLES, TOTALS, document
from tests.unit.parser.test_kernel import GOOD, envelope, nsg, segment, vnet


def run(*arguments: object, given: bytes | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=given)


@pytest.mark.parametrize("name", TOTALS)
def test_samples_give_their_published_totals(name: str, tmp_path: Path) -> None:
    """Each published sample becomes as many rows as it has tuples, with its README's values and sums."""
    totals = TOTALS[name]
    file = tmp_path / "PT1H.json"
    file.write_bytes(document(name))
    result = run(file)
    assert result.exit_code == 0
    counts = f"files 1, records {totals.records}, tuples {totals.tuples}, rows {totals.tuples}, dead letters 0"
    assert counts in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["blob"] for row in rows] == [str(file)] * totals.tuples
    assert {column: Counter(row.get(column) for row in rows) for column in totals.values} == totals.values
    assert {column: sum(row.get(column) or 0 for row in rows) for column in totals.sums} == totals.sums


def test_all_formats_hold_the_same_rows(tmp_path: Path) -> None:
    """NDJSON, CSV and Parquet agree; the table has a line a row."""
    file = SAMPLES / "vnet_v4.json"
    lines = [json.loads(line) for line in run(file, "--format", "ndjson").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(run(file, "--format", "csv").stdout)))
    assert run(file, "--format", "parquet", "-o", tmp_path / "rows.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "rows.parquet")
    assert [row["time"] for row in rows] == [line["time"] for line in lines]
    assert [int(row["bytes_sent"]) for row in rows] == [line["bytes_sent"] for line in lines] == table["bytes_sent"].to_pylist()
    text = run(file, "--format", "table").stdout.splitlines()
    assert len(text) == 1 + len(rows)
    assert "10.0.0.6 23956" in text[1]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_table_holds_no_control_characters(tmp_path: Path) -> None:
    """Logs are untrusted and a terminal obeys: what a rule's name holds of that is replaced, and a row stays a line."""
    file = tmp_path / "file"
    record = vnet(GOOD)
    record["flowRecords"]["flows"][0]["flowGroups"][0]["rule"] = "a\x1b[2Jb\nc\u009bd"
    file.write_bytes(envelope(record))
    shown = run(file, "--format", "table").stdout
    assert shown.count("\n") == 2
    assert "a?[2Jb?c?d" in shown


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    """Gzip members, a byte order mark, a document a line, the content of a block and standard input are recognised."""
    document = envelope(vnet(GOOD, GOOD))
    record = json.dumps(vnet(GOOD)).encode()
    contents = {
        "packed": gzip.compress(document[:40]) + gzip.compress(document[40:]),
        "marked": b"\xef\xbb\xbf" + document,
        "lines": document + b"\r\n" + record + b"\n" + record,
        "block": b"," + record + b"," + record,
        "marked record": b"\xef\xbb\xbf" + json.dumps(vnet(GOOD), indent=1).encode(),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    result = run(*(tmp_path / name for name in contents), "-", given=gzip.compress(document))
    assert "files 6, records 9, tuples 13, rows 13, dead letters 0" in result.stderr


def test_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    """Lines are known as such by any line that is a record, not by the first one, which may be cut."""
    record = json.dumps(vnet(GOOD)).encode()
    for number, broken in enumerate((b'{"broken', record[:-1], b'{"a":[', b'{"category":"x",}', b"\xff{")):
        file = tmp_path / str(number)
        file.write_bytes(broken + b"\n" + record + b"\n\n" + record + b"\n")
        result = run(file)
        assert "records 2, tuples 2, rows 2, dead letters 1" in result.stderr, broken


def test_a_broken_record_among_records_costs_only_itself(tmp_path: Path) -> None:
    """Records separated by commas stay records, each on a line or over several, although the last of them looks like a line."""
    record = json.dumps(vnet(GOOD)).encode()
    file = tmp_path / "file"
    for separator in (b",", b",\n", b"\n,"):
        file.write_bytes(separator.join([record.replace(b'"category"', b"category", 1), record, record]))
        assert "records 2, tuples 2, rows 2, dead letters 1" in run(file).stderr, separator
    file.write_bytes(json.dumps(vnet(GOOD, "x"), indent=1).encode())
    assert "records 1, tuples 2, rows 1, dead letters 1" in run(file).stderr


def test_a_line_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much text without a newline is handed on in bounded pieces, for the parser to refuse, and what follows is read."""
    monkeypatch.setattr(convert_input, "CHUNK_BYTES", 100)
    monkeypatch.setattr(convert_input, "MAX_PENDING_BYTES", 800)
    record = json.dumps(vnet(GOOD)).encode()
    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000 + b"\n" + record + b"\n")
    segments = list(convert_input.segments_of(str(file)))
    assert max(len(one.data) for one in segments) <= 800 + len(record)
    assert b"".join(one.data for one in segments) == file.read_bytes()
    assert sum(parse([one]).batch.num_rows for one in segments) == 1


def test_the_summary_counts_per_version(tmp_path: Path) -> None:
    """Records, tuples, rows and dead letters are told for every version that was read, also for one that gave no row."""
    file = tmp_path / "PT1H.json"
    file.write_bytes(
        envelope(vnet(GOOD, "x", GOOD), vnet(GOOD), nsg("y"), nsg(version=1), {"category": "Other"}, vnet(GOOD, version=7))
    )
    assert run(file).stderr.splitlines()[:-1] == [
        "files 1, records 4, tuples 5, rows 3, dead letters 4",
        "  FlowLogFlowEvent version 4: records 2, tuples 4, rows 3, dead letters 1",
        "  NetworkSecurityGroupFlowEvent version 1: records 1, tuples 0, rows 0, dead letters 0",
        "  NetworkSecurityGroupFlowEvent version 2: records 1, tuples 1, rows 0, dead letters 1",
        "  dead letters short_tuple: 2",
        "  dead letters unknown_format: 2",
    ]


def test_dead_letters_go_to_a_file_and_give_exit_code_1(tmp_path: Path) -> None:
    """Bad tuples, records and bytes are written with place and content; good siblings still become rows."""
    file = tmp_path / "PT1H.json"
    file.write_bytes(envelope(vnet(GOOD, "short"), {"category": "Other"})[:-2] + b',{"a":"\xff"}]}')
    result = run(file, "--errors", tmp_path / "errors.ndjson")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    errors = [json.loads(line) for line in (tmp_path / "errors.ndjson").read_bytes().splitlines()]
    assert [(error["code"], error.get("tuple_index")) for error in errors] == [
        ("short_tuple", 1),
        ("unknown_format", None),
        ("bad_json", None),
    ]
    assert [error.get("text") for error in errors] == ["short", '{"category":"Other"}', None]
    assert errors[2]["base64"] == "eyJhIjoi/yJ9"


def test_wrong_use_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """A missing file, an output over its input and broken gzip are one clear line each, and leave nothing behind."""
    file = tmp_path / "in.json"
    file.write_bytes(gzip.compress(envelope(vnet(GOOD)))[:60])
    assert run(tmp_path / "none").exit_code == 2
    assert run(file, "-o", file).exit_code == 2
    broken = run(file, "-o", tmp_path / "out")
    assert "broken gzip data" in str(broken.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


@pytest.mark.parametrize("chunk", [10, 100, 700, 5000])
def test_a_file_read_in_chunks_gives_the_rows_of_the_whole(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever chunks end, records, rows and dead letters are those of the file in one piece."""
    good = [vnet(GOOD, *["x"] * (number % 3 == 0)) for number in range(12)]
    text = envelope(*good).replace(b'"category"', b"category", 1)
    (tmp_path / "file").write_bytes(text)
    (tmp_path / "lines").write_bytes(b"\n".join(json.dumps(record).encode() for record in good))
    whole = parse([segment(text)])
    for module in (convert, convert_input):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    segments = list(convert_input.segments_of(str(tmp_path / "file")))
    parsed = [parse([one]) for one in segments]
    offsets = [row["record_offset"] for part in parsed for row in rows_of(part.batch)]
    assert offsets == [row["record_offset"] for row in rows_of(whole.batch)]
    assert b"".join(one.data for one in segments) == text[: segments[-1].end]
    result = run(tmp_path / "lines")
    assert "records 12, tuples 16, rows 12, dead letters 4" in result.stderr
