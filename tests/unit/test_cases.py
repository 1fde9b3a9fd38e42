"""Inputs after public reports: documents joined, exported, marked and saved as flow logs are in real life."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from services.cli.convert.command import command
from services.parser.flows.kernel import Parsed, parse
from tests.blob_reading import Desk, assert_tiles
from tests.parser_oracle import rows_of

CASES = Path(__file__).parents[1] / "data" / "cases"
ROWS = {
    "bom_each_append.jsonl": 3,
    "concatenated_documents.json": 6,
    "concatenated_members.json.gz": 3,
    "array_of_records.json": 2,
    "array_lines.json": 2,
    "array_single_line_pretty.json": 1,
    "utf16.json": 1,
}


def converted(file: Path) -> list[dict[str, object]]:
    """Return the rows that `convert` makes of a file, which must have no dead letters."""
    result = CliRunner().invoke(command, [str(file)])
    assert (result.exit_code, "dead letters 0" in result.stderr) == (0, True), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def read_as_blob(data: bytes, kind: str) -> tuple[Desk, Parsed]:
    """Return what ingest and the parser make of a closed blob."""
    desk = Desk()
    desk.container.put(desk.name, data, kind=kind)
    desk.read(closed=True)
    return desk, parse(desk.segments)


@pytest.mark.parametrize("name", ROWS)
def test_convert_reads_each_case(name: str) -> None:
    """Every record becomes its rows, nothing is a dead letter."""
    assert len(converted(CASES / name)) == ROWS[name]


@pytest.mark.parametrize("kind", ["BlockBlob", "AppendBlob"])
@pytest.mark.parametrize("name", [name for name in ROWS if not name.endswith(".gz") and name != "utf16.json"])
def test_a_blob_of_each_case_gives_the_same_rows(name: str, kind: str) -> None:
    """From ingest through the parser come the rows of `convert`, with the offsets of the records in the blob."""
    data = (CASES / name).read_bytes()
    desk, parsed = read_as_blob(data, kind)
    assert (desk.dead_letters, parsed.dead_letters) == ([], [])
    assert_tiles(desk.segments)
    rows = rows_of(parsed.batch)
    assert [row["record_offset"] for row in rows] == [row["record_offset"] for row in converted(CASES / name)]
    assert all(data.startswith(b"{", row["record_offset"]) for row in rows)


@pytest.mark.parametrize("kind", ["BlockBlob", "AppendBlob"])
def test_a_blob_in_utf_16_is_named_as_that(kind: str) -> None:
    """One dead letter says what the text is and what to do."""
    desk, parsed = read_as_blob((CASES / "utf16.json").read_bytes(), kind)
    assert desk.dead_letters == []
    (letter,) = parsed.dead_letters
    assert letter.reason.startswith("UTF-16 text")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_convert_reads_utf_16_with_and_without_a_mark(codec: str, tmp_path: Path) -> None:
    """In either byte order, packed or not; a text that ends in half a character loses only that."""
    text = (CASES / "utf16.json").read_bytes().decode("utf-16")
    for pack in (bytes, gzip.compress):
        (tmp_path / "file").write_bytes(pack(text.encode(codec)))
        assert len(converted(tmp_path / "file")) == 1
    (tmp_path / "file").write_bytes(text.encode(codec) + b"\n")
    result = CliRunner().invoke(command, [str(tmp_path / "file")])
    assert "UTF-16 text ends inside a character" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_a_state_that_the_format_does_not_have_says_nothing_about_the_action() -> None:
    """The action is unknown; state and encryption stay as they were written. The second tuple is too long."""
    result = CliRunner().invoke(command, [str(CASES / "unknown_state.json")])
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row.get("action"), row["state"], row["encryption"]) == (None, "A", "C")
    assert "dead letters long_tuple: 1" in result.stderr


@pytest.mark.parametrize("name", ["xz", "bzip2", "zip", "gzip in compressed data", "zstd in compressed data"])
def test_what_is_packed_in_a_way_that_is_not_read_is_named(name: str, tmp_path: Path) -> None:
    """One dead letter with what to do, instead of one for each stretch of rubbish."""
    signs = {"xz": b"\xfd7zXZ\0", "bzip2": b"BZh9", "zip": b"PK\x03\x04"}
    data = signs.get(name, b"") + b"\0\n,{" * 100
    twice = {
        "gzip in compressed data": gzip.compress(gzip.compress(data)),
        "zstd in compressed data": gzip.compress(zstandard.compress(data)),
    }
    (tmp_path / "file").write_bytes(twice.get(name, data))
    result = CliRunner().invoke(command, [str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "dead letters unsupported_blob: 1" in result.stderr
    assert f"{name} is not supported; decompress it first" in result.stderr.replace("a zip archive", "zip")


def test_keys_behind_the_records_of_a_document_are_passed_over() -> None:
    """They are no dead letter, in whatever document they stand; flows in them are none that may be passed over."""
    document = (CASES / "array_of_records.json").read_bytes()
    records = b'{"records":' + document.rstrip()
    for more in (b',"more":{"a":["]}",{"b":1}]}}', b' , "n" : 1 , "x" : null }'):
        for kind in ("BlockBlob", "AppendBlob"):
            desk, parsed = read_as_blob((records + more) * 2, kind)
            assert (desk.dead_letters, parsed.dead_letters, parsed.batch.num_rows) == ([], [], 4)
    desk, parsed = read_as_blob(records + b',"flowRecords":{"flows":[]}}', "BlockBlob")
    assert parsed.batch.num_rows == 2
    assert [letter.data for letter in desk.dead_letters] == [b'],"flowRecords":{"flows":[]}}']
