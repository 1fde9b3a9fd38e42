"""The file sink: formats, rotation, and what it does with leftovers and trouble."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.file.sink import FileSettings, FileSink
from services.sinks.kinds.summary.sink import SummarySettings, SummarySink
from services.sinks.local_state.shard_store import ShardStore
from tests.clock import Clock
from tests.flows import by_identity, identity, rows
from tests.flows import part as flow_part

CONTENT = rows()
STARTED = 1_000_000.0


def make(directory: Path, clock: Clock | None = None, **options: Any) -> FileSink:
    """Open a file sink."""
    sink = FileSink(FileSettings.model_validate({"directory": directory, **options}), FLOWS, clock or Clock(STARTED))
    sink.open()
    return sink


def names(directory: Path) -> list[str]:
    """Return what a reader sees."""
    return sorted(file.name for file in directory.iterdir() if not file.name.startswith("."))


def part(content: list[dict[str, Any]] = CONTENT, shard: int = 3) -> list[Part]:
    """Return one part."""
    return [flow_part(shard, content)]


@pytest.mark.parametrize(
    ("options", "extension"),
    [
        ({"format": "ndjson"}, "ndjson"),
        ({"format": "ndjson", "compression": "gzip"}, "ndjson.gz"),
        ({"format": "csv", "compression": "zstd"}, "csv.zst"),
        ({"format": "csv"}, "csv"),
        ({"format": "parquet", "compression": "snappy"}, "parquet"),
    ],
)
def test_every_format_holds_every_row(tmp_path: Path, options: dict[str, Any], extension: str) -> None:
    """Each format and compression gives one file with all identities, readable with usual tools."""
    sink = make(tmp_path, **options)
    sink.write(part(CONTENT[:20]))
    sink.write(part(CONTENT[20:]))
    sink.close()
    assert names(tmp_path) == [f"flows-p003-00000001.{extension}"]
    assert read(tmp_path / names(tmp_path)[0]) == [identity(row) for row in CONTENT]


def read(file: Path) -> list[tuple[Any, ...]]:
    """Return the identities in a file."""
    if file.suffix == ".parquet":
        return list(by_identity(pq.read_table(file)))
    data = file.read_bytes()
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    elif file.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if ".csv" in file.name:
        found: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    else:
        found = [json.loads(line) for line in data.splitlines()]
    return [(row["blob"], row["generation"], int(row["record_offset"]), int(row["tuple_index"])) for row in found]


def test_parquet_keeps_types_and_words_readable(tmp_path: Path) -> None:
    """Parquet columns have the schema's types; words are plain strings for readers that know nothing of Arrow."""
    sink = make(tmp_path)
    sink.write(part())
    sink.close()
    file = pq.ParquetFile(tmp_path / names(tmp_path)[0])
    assert by_identity(file.read()) == by_identity(CONTENT)
    assert str(file.schema.column(file.schema_arrow.get_field_index("rule")).logical_type) == "String"


def test_columns_are_chosen_and_formulas_defused(tmp_path: Path) -> None:
    """Only the chosen columns are written, in their order, and a formula cannot run in a spreadsheet."""
    sink = make(tmp_path, format="csv", columns="dst_port,rule", formula_safe=True)
    sink.write(part(CONTENT[:2]))
    sink.close()
    text = (tmp_path / names(tmp_path)[0]).read_text()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["dst_port", "rule"],
        ["443", "DefaultRule_Allow"],
        ["53", "'" + CONTENT[1]["rule"]],
    ]


@pytest.mark.parametrize(("limit", "files"), [({"rotate_rows": 20}, 2), ({"rotate_rows": 21}, 1), ({"rotate_bytes": 1}, 4)])
def test_a_file_is_complete_at_its_limit(tmp_path: Path, limit: dict[str, Any], files: int) -> None:
    """A file appears with the write that reaches the limit, not below it."""
    sink = make(tmp_path, flush_on_close=False, **limit)
    for at in range(0, 40, 10):
        sink.write(part(rows(blobs=4, records=5)[at : at + 10]))
    sink.close()
    assert len(names(tmp_path)) == files


def test_a_file_is_complete_by_time_without_new_rows(tmp_path: Path) -> None:
    """When nothing comes any more, the last rows still get their file, a limit after the first of them came."""
    clock = Clock(STARTED)
    sink = make(tmp_path, clock, rotate_seconds=60)
    sink.write(part(CONTENT[:5]))
    clock.now += 40
    sink.write(part(CONTENT[5:9]))
    sink.tick()
    assert names(tmp_path) == []
    clock.now += 20
    sink.tick()
    assert read(tmp_path / names(tmp_path)[0]) == [identity(row) for row in CONTENT[:9]]
    sink.close()


def test_rows_of_a_shard_that_moved_away_get_their_file(tmp_path: Path) -> None:
    """Rows that a stopped process left waiting are swept up by one that never gets rows of that shard."""
    clock = Clock(STARTED)
    first = make(tmp_path, clock, flush_on_close=False)
    first.write(part())
    first.close()
    assert names(tmp_path) == []
    second = make(tmp_path, clock)
    clock.now += 61
    second.tick()
    assert names(tmp_path) == ["flows-p003-00000001.parquet"]
    second.close()


def test_a_shard_belongs_to_one_process(tmp_path: Path) -> None:
    """While one worker has a shard, another gets Retry for it, and takes it over when it is released."""
    first, second = make(tmp_path), make(tmp_path)
    first.write(part(CONTENT[:9]))
    with pytest.raises(Retry, match="in use by another process"):
        second.write(part())
    first.release([3])
    assert second.write(part()) == Outcome(len(CONTENT) - 9, 9)
    first.close()
    second.close()


def test_a_file_that_a_reader_took_away_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between the rename and its record, a file that is gone was taken: its rows do not come twice."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    sink = make(tmp_path, rotate_rows=20)
    monkeypatch.setattr(
        "services.sinks.local_state.shard_store.crash_point", lambda name: die() if name == "sink.part-renamed" else None
    )
    with pytest.raises(KeyboardInterrupt):
        sink.write(part(CONTENT[:20]))
    monkeypatch.undo()
    (tmp_path / "flows-p003-00000001.parquet").unlink()
    again = make(tmp_path)
    again.write(part())
    again.close()
    assert names(tmp_path) == ["flows-p003-00000002.parquet"]
    assert read(tmp_path / names(tmp_path)[0]) == [identity(row) for row in CONTENT[20:]]


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    """A name that is taken, by files whose hidden state was deleted for instance, is stepped over."""
    (tmp_path / "flows-p003-00000001.parquet").write_text("mine")
    sink = make(tmp_path)
    sink.write(part())
    sink.close()
    assert names(tmp_path) == ["flows-p003-00000001.parquet", "flows-p003-00000002.parquet"]
    assert (tmp_path / "flows-p003-00000001.parquet").read_text() == "mine"


def test_the_same_spool_gives_the_same_bytes(tmp_path: Path) -> None:
    """A file that is made again after a crash is the same, byte by byte."""
    content = []
    for run in ("a", "b"):
        sink = make(tmp_path / run, format="ndjson", compression="gzip")
        sink.write(part())
        sink.close()
        content.append((tmp_path / run / "flows-p003-00000001.ndjson.gz").read_bytes())
    assert content[0] == content[1]


def test_a_damaged_spool_stops_the_sink(tmp_path: Path) -> None:
    """Rows that were damaged on the disk are noticed, named and not skipped."""
    sink = make(tmp_path, flush_on_close=False)
    sink.write(part())
    sink.close()
    spool = tmp_path / ".blobtide" / "p003" / "spool"
    data = bytearray(spool.read_bytes())
    data[len(data) // 2] ^= 1
    spool.write_bytes(data)
    with pytest.raises(CodecError, match=r"spool is damaged at byte"):
        make(tmp_path).close()


def test_rows_of_an_older_schema_get_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows spooled by another version are completed before new ones come, since a file has one schema."""
    sink = make(tmp_path, flush_on_close=False)
    sink.write(part(CONTENT[:9]))
    sink.close()
    spooled = ShardStore._spooled_schema
    monkeypatch.setattr(ShardStore, "_spooled_schema", lambda store: spooled(store).append(pa.field("old", pa.int8())))
    sink = make(tmp_path)
    assert read(tmp_path / names(tmp_path)[0]) == [identity(row) for row in CONTENT[:9]]
    sink.close()


def test_a_directory_that_cannot_be_made_is_a_setting_error(tmp_path: Path) -> None:
    """A directory under a plain file is refused at start, in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to directory .*/file/sub: Not a directory"):
        make(tmp_path / "file" / "sub")


@pytest.mark.parametrize("running", [True, False])
def test_a_directory_belongs_to_one_kind_of_sink(tmp_path: Path, *, running: bool) -> None:
    """A sink refuses the directory of another kind, whose positions are not its own, even while nobody works there."""
    summary = SummarySink(SummarySettings(directory=tmp_path, print_seconds=0))
    summary.open()
    if not running:
        summary.close()
    with pytest.raises(ConfigError, match="belongs to a summary sink: give the file sink its own directory"):
        make(tmp_path)
    summary.close()


def test_a_copy_of_a_shards_state_is_left_alone(tmp_path: Path) -> None:
    """What somebody put beside the state of the shards does not keep the sink from starting."""
    make(tmp_path).close()
    (tmp_path / ".blobtide" / "p000.bak").mkdir()
    sink = make(tmp_path)
    sink.write(part())
    sink.close()
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"template": "flows-{shard}"}, "needs {shard} and {sequence}"),
        ({"template": "f{shard}{sequence}"}, "separate "),
        ({"template": "{shard:02}{sequence}"}, "separate "),
        ({"template": "../{shard}-{sequence}"}, "must not contain /"),
        ({"template": "{shard.__class__}{sequence}"}, "needs {shard} and {sequence}"),
        ({"compression": "snappy", "format": "csv"}, "snappy is for Parquet"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """Options that cannot work are refused with a sentence."""
    with pytest.raises(ValidationError, match=message):
        FileSettings.model_validate({"directory": tmp_path, **wrong})


@pytest.mark.parametrize(
    "template", ["{shard:03}{sequence:08}", "{sequence:09}{shard}", "{shard}-{sequence}", "{shard}x{sequence}"]
)
def test_a_template_whose_names_differ_is_taken(tmp_path: Path, template: str) -> None:
    """Numbers of a fixed width, or with something between them, cannot be mixed up."""
    assert FileSettings(directory=tmp_path, template=template).template == template


@pytest.mark.parametrize("form", ["parquet", "ndjson", "csv"])
def test_rows_of_a_sample_keep_their_weight_and_new_names(tmp_path: Path, form: str) -> None:
    """What a selection adds to rows stands in the files, and columns have the names that they were given."""
    configured = configured_sink(
        {"file": {"directory": str(tmp_path), "format": form, "sample": 0.5, "rename": {"src_ip": "source.ip"}}}, "file"
    )
    whole = part()[0]
    rows_ = configured.selection.select(whole.rows).rows
    sink = configured.sink
    sink.open()
    sink.write([Part(whole.shard, FLOWS, rows_, (rows_.num_rows,))])
    sink.close()
    (file,) = (one for one in tmp_path.iterdir() if one.name != ".blobtide")
    if form == "parquet":
        written = pq.read_table(file)
        assert set(written.column("sample_weight").to_pylist()) == {2.0}
        assert written.column("source.ip").to_pylist() == rows_.column("src_ip").to_pylist()
    elif form == "ndjson":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["source"]["ip"] for line in lines] == rows_.column("src_ip").to_pylist()
        assert {line["sample_weight"] for line in lines} == {2.0}
    else:
        header, *lines = file.read_text().splitlines()
        assert header.split(",")[1] == "source.ip"
        assert header.endswith(",sample_weight")
    assert 0 < rows_.num_rows < whole.rows.num_rows


def test_a_directory_is_of_one_row_type(tmp_path: Path) -> None:
    """Positions of dead letters and of flows are kept apart: a directory that has the one is refused to the other."""
    make(tmp_path).close()
    other = FileSink(FileSettings(directory=tmp_path), DEAD_LETTERS)
    with pytest.raises(ConfigError, match="belongs to a file sink: give the file of dead_letters sink its own directory"):
        other.open()
