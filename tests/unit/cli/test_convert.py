"""`blobtide convert`: the kernel on local files."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner, Result

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment
from libs.common.rows.types.flows import FLOW_SCHEMA
from libs.common.unpacking import unpacker
from services.cli.convert import command as convert
from services.cli.convert import input as convert_input
from services.cli.convert.command import command
from services.cli.convert.local_file import MAX_TRAILING_BYTES, CutText, text_chunks
from services.parser.flows.kernel import parse
from tests.parser_oracle import rows_of
from tests.samples import SAMPLES, TOTALS, document
from tests.unit.parser.test_kernel import GOOD, envelope, nsg, segment, vnet

if TYPE_CHECKING:
    from typing_extensions import Buffer


def run(*arguments: object, given: bytes | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=given)


def segments_of(file: Path) -> list[Segment]:
    """Return the segments of a file."""
    return [found for found in convert_input.segments_of(str(file)) if isinstance(found, Segment)]


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


def test_keys_stand_in_the_order_of_the_schema(tmp_path: Path) -> None:
    """Every row of NDJSON begins with the time and has its other columns in the schema's order."""
    file = tmp_path / "PT1H.json"
    file.write_bytes(document("vnet_v4"))
    for line in run(file).stdout.splitlines():
        keys = list(json.loads(line))
        assert keys[0] == "time"
        assert keys == [name for name in FLOW_SCHEMA.names if name in keys]


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


def written_as(file: Path) -> str:
    """Tell the format of a file of rows by its first bytes."""
    data = file.read_bytes()
    return "parquet" if data.startswith(b"PAR1") else "ndjson" if data.startswith(b"{") else "csv"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("r.parquet", "parquet"),
        ("r.CSV", "csv"),
        ("r.ndjson", "ndjson"),
        ("r.jsonl", "ndjson"),
        ("r.json", "ndjson"),
        ("r", "ndjson"),
    ],
)
def test_the_suffix_of_the_output_chooses_the_format(name: str, form: str, tmp_path: Path) -> None:
    """Without --format the file is what its name says; --format wins over the name."""
    file = SAMPLES / "vnet_v4.json"
    assert run(file, "-o", tmp_path / name).exit_code == 0
    assert written_as(tmp_path / name) == form
    for other in ("parquet", "csv", "ndjson"):
        assert run(file, "-o", tmp_path / name, "--format", other).exit_code == 0
        assert written_as(tmp_path / name) == other


def test_a_table_holds_no_control_characters(tmp_path: Path) -> None:
    """Logs are untrusted and a terminal obeys: what a rule's name holds of that is shown as escapes, and a row stays a line."""
    file = tmp_path / "file"
    record = vnet(GOOD)
    record["flowRecords"]["flows"][0]["flowGroups"][0]["rule"] = "a\x1b[2Jb\nc\u009bd\u202ee"
    file.write_bytes(envelope(record))
    shown = run(file, "--format", "table").stdout
    assert shown.count("\n") == 2
    assert r"a\u001b[2Jb\u000ac\u009bd\u202ee" in shown


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    """Gzip, zstd, a byte order mark, a document a line, the content of a block and standard input are recognised."""
    document = envelope(vnet(GOOD, GOOD))
    record = json.dumps(vnet(GOOD)).encode()
    contents = {
        "packed": gzip.compress(document[:40]) + gzip.compress(document[40:]),
        "zstd": zstandard.compress(document[:40]) + zstandard.compress(document[40:]),
        "marked": b"\xef\xbb\xbf" + document,
        "lines": document + b"\r\n" + record + b"\n" + record,
        "block": b"," + record + b"," + record,
        "marked record": b"\xef\xbb\xbf" + json.dumps(vnet(GOOD), indent=1).encode(),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    result = run(*(tmp_path / name for name in contents), "-", given=gzip.compress(document))
    assert "files 7, records 10, tuples 15, rows 15, dead letters 0" in result.stderr


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
    segments = segments_of(file)
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
    """An output over its input is one clear line, and leaves nothing behind."""
    file = tmp_path / "in.json"
    file.write_bytes(envelope(vnet(GOOD)))
    assert run(file, "-o", file).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


def test_a_broken_file_costs_only_what_is_behind_the_damage(tmp_path: Path) -> None:
    """Rows of good files and of whole records before the cut come; one dead letter has the rest, and the summary is shown."""
    text = envelope(vnet(GOOD, GOOD), vnet(GOOD))
    whole, _, rest = text.rpartition(b',{"time"')
    cut = gzip.compress(whole + b',{"time"' + rest[:100])[:-8]
    for name, data in {"good": text, "cut.gz": cut, "trailed.gz": gzip.compress(text) + b"rubbish", "last": text}.items():
        (tmp_path / name).write_bytes(data)
    result = run(*(tmp_path / name for name in ("good", "cut.gz", "trailed.gz", "last")), "--errors", tmp_path / "errors")
    assert result.exit_code == 1
    assert "files 4, records 7, tuples 11, rows 11, dead letters 2" in result.stderr
    assert f"cut.gz: gzip data truncated after byte {len(cut)}" in result.stderr
    assert len(result.stdout.splitlines()) == 11
    errors = [json.loads(line) for line in (tmp_path / "errors").read_bytes().splitlines()]
    assert [(error["code"], Path(error["file"]).name, error["record_offset"], error["text"]) for error in errors] == [
        ("cut_file", "cut.gz", len(whole), ',{"time"' + rest[:100].decode()),
        ("trailing_bytes", "trailed.gz", len(text), "rubbish"),
    ]


def test_a_wrong_checksum_is_told_and_all_rows_come(tmp_path: Path) -> None:
    """All that the member holds becomes rows; that its bytes are not what was packed is a dead letter."""
    file = tmp_path / "file"
    data = gzip.compress(envelope(vnet(GOOD)))
    file.write_bytes(data[:-8] + bytes(4) + data[-4:])
    result = run(file)
    assert result.exit_code == 1
    assert "rows 1, dead letters 1" in result.stderr
    assert f"damaged at byte {len(data) - 5}: incorrect data check" in result.stderr


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    """The others are converted, the summary counts it, and the exit code is 1."""
    good = tmp_path / "good"
    good.write_bytes(envelope(vnet(GOOD)))
    result = run(tmp_path / "none", good, tmp_path, "-o", tmp_path / "rows")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == [
        f"blobtide convert: {tmp_path / 'none'}: No such file or directory",
        f"blobtide convert: {tmp_path}: Is a directory",
    ]
    assert "files 1, records 1, tuples 1, rows 1, dead letters 0" in result.stderr
    assert result.stderr.splitlines()[-1] == "  unreadable files: 2"
    assert len((tmp_path / "rows").read_bytes().splitlines()) == 1


def test_rows_of_before_stay_when_no_file_can_be_read(tmp_path: Path) -> None:
    """A mistyped name does not cost what an earlier run has written."""
    rows = tmp_path / "rows"
    rows.write_text("as before")
    result = run(tmp_path / "none", "-o", rows)
    assert "no result was written" in str(result.exception)
    assert "files 0" in result.stderr
    assert rows.read_text() == "as before"
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


class _FailingDisk(io.RawIOBase):
    """Gives some bytes and then fails, as a disk or a share may."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        if not self._data:
            raise OSError(errno.EIO, "Input/output error")
        part = self._data[: len(memoryview(buffer))]
        memoryview(buffer)[: len(part)] = part
        self._data = self._data[len(part) :]
        return len(part)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_fails_while_it_is_read_keeps_what_was_read(pack: Callable[[bytes], bytes]) -> None:
    """What was read before comes out, then the reason."""
    data = pack(b"x" * 100_000)
    *texts, last = text_chunks(io.BufferedReader(_FailingDisk(data[:-1])), 1000)
    assert last == CutText("reading failed: Input/output error")
    assert b"".join(piece for piece in texts if isinstance(piece, bytes)).startswith(b"x" * 90_000)


def test_very_much_behind_a_member_is_named_only(tmp_path: Path) -> None:
    """So many trailing bytes are not kept in memory: the dead letter says where they are."""
    for size, kept in ((MAX_TRAILING_BYTES, MAX_TRAILING_BYTES), (MAX_TRAILING_BYTES + 1, 0)):
        (tmp_path / "file").write_bytes(gzip.compress(b"") + b"x" * size)
        (letter,) = convert_input.segments_of(str(tmp_path / "file"))
        assert isinstance(letter, DeadLetter)
        assert len(letter.data) == kept
        assert f"from byte {len(gzip.compress(b''))} on" in letter.reason


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
    segments = segments_of(tmp_path / "file")
    parsed = [parse([one]) for one in segments]
    offsets = [row["record_offset"] for part in parsed for row in rows_of(part.batch)]
    assert offsets == [row["record_offset"] for row in rows_of(whole.batch)]
    assert b"".join(one.data for one in segments) == text[: segments[-1].end]
    result = run(tmp_path / "lines")
    assert "records 12, tuples 16, rows 12, dead letters 4" in result.stderr


def test_dead_letters_are_excerpts_with_a_limit_in_all(tmp_path: Path) -> None:
    """A long one says how much of it is left out; too many of them end the command with what to do, and leave nothing."""
    file, errors = tmp_path / "file", tmp_path / "errors"
    file.write_bytes(b'{"a":"' + "é".encode() * 50_000 + b'"}')
    assert run(file, "--errors", errors).exit_code == 1
    (letter,) = map(json.loads, errors.read_text().splitlines())
    assert len(letter["text"].encode()) + letter["omitted_bytes"] in {len(file.read_bytes()), len(file.read_bytes()) - 1}
    errors.unlink()
    file.write_bytes(b'{"category":"' + b"x" * 100_000 + b'"}\n' + b"y\n" * 8_000)
    result = run(file, "--errors", errors, "--errors-limit", 1, "-o", tmp_path / "rows.parquet")
    assert "more than 1 MB of dead letters" in str(result.exception)
    assert "raise --errors-limit" in str(result.exception)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (zstandard.compress, "zstd")])
def test_what_unpacks_to_far_more_than_logs_do_is_given_up(
    pack: Callable[[bytes], bytes], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was unpacked before is read, and the dead letter says how to read the rest if it is meant."""
    monkeypatch.setattr(unpacker, "UNJUDGED_BYTES", 1_000_000)
    file = tmp_path / "file"
    file.write_bytes(pack(envelope(vnet(GOOD)) + b"\n" + b" " * 5_000_000))
    result = run(file)
    assert result.exit_code == 1
    assert f"{name} -dc FILE | blobtide convert -" in result.stderr
    assert "rows 1, dead letters 1" in result.stderr


def test_where_writes_only_rows_that_meet_the_condition(tmp_path: Path) -> None:
    """Rows that do not meet the condition are left out, and the summary counts them."""
    name = next(iter(TOTALS))
    file = tmp_path / "PT1H.json"
    file.write_bytes(document(name))
    every = [json.loads(line) for line in run(file).stdout.splitlines()]
    result = run(file, "--where", "action = 'deny' and in_subnet(src_ip, '0.0.0.0/0')")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert 0 < len(rows) < len(every)
    assert rows == [row for row in every if row["action"] == "deny"]
    assert f"rows filtered out: {len(every) - len(rows)}, rows written: {len(rows)}" in result.stderr
    assert f"rows {len(every)}" in result.stderr


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet", "table"])
def test_where_may_leave_nothing(form: str, tmp_path: Path) -> None:
    """If no row meets the condition, the result is empty, and well formed."""
    file, output = tmp_path / "PT1H.json", tmp_path / "rows"
    file.write_bytes(document(next(iter(TOTALS))))
    assert run(file, "--where", "false", "--format", form, "-o", output).exit_code == 0
    if form == "parquet":
        assert pq.read_table(output).num_rows == 0
    else:
        assert output.read_text().count("\n") == (form == "csv")


def test_wrong_conditions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A wrong condition ends the command and leaves no output."""
    output = tmp_path / "rows.csv"
    result = run("missing.json", "-o", output, "--where", "acton = 'deny'")
    assert isinstance(result.exception, ConfigError)
    assert "did you mean action?" in str(result.exception)
    assert not output.exists()
