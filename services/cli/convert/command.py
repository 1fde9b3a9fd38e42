"""``blobtide convert``: convert flow-log files to rows with the parser's own kernel, without a server."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import pyarrow as pa

from libs.common.errors import BlobtideError, ConfigError
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment
from libs.common.rows.select import Selection
from libs.common.rows.types.flows import FLOWS
from services.cli.convert.errors import ErrorsFile
from services.cli.convert.input import CHUNK_BYTES, segments_of
from services.cli.convert.local_file import STANDARD_INPUT
from services.cli.convert.output import OutputFormat, RowWriter, format_of, row_writer
from services.cli.help_text import examples
from services.cli.pretty import ProgressLine, is_terminal
from services.cli.streams import result_file
from services.cli.terminal import say
from services.parser.flows.gathering import Bound, Gathered, gather
from services.parser.flows.kernel import Parsed, parse_gathered
from services.parser.letters import no_source

DEAD_LETTERED: Final = 1
_LETTERS_AT_ONCE: Final = 10_000


@dataclass(slots=True)
class _Count:
    """Counts for the records of one version."""

    records: int = 0
    rows: int = 0
    bad_tuples: int = 0


@dataclass(slots=True)
class _Tally:
    """Counts of what was read and what it yielded."""

    files: int = 0
    unopened: int = 0
    bytes: int = 0
    filtered: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    versions: defaultdict[str, _Count] = field(default_factory=lambda: defaultdict(_Count))

    @property
    def rows(self) -> int:
        """Total number of rows."""
        return sum(count.rows for count in self.versions.values())

    def add(self, gathered: Gathered, parsed: Parsed) -> None:
        """Count the records and rows of one result."""
        for version, records in Counter(_versions(gathered)).items():
            self.versions[version].records += records
        kinds = pa.table({"category": parsed.batch["category"].cast(pa.string()), "version": parsed.batch["flow_log_version"]})
        for kind in kinds.group_by(["category", "version"]).aggregate([([], "count_all")]).to_pylist():
            self.versions[_version(kind["category"], kind["version"])].rows += kind["count_all"]

    def refuse(self, gathered: Gathered, letters: Iterable[DeadLetter]) -> None:
        """Count dead letters; those of tuples also under the version of their record."""
        self.letters.update(letter.code.value for letter in letters)
        bad = [(letter.blob, letter.record_offset) for letter in letters if letter.tuple_index is not None]
        if bad:
            blobs = (gathered.segments[number].blob for number in gathered.segment_of)
            places: Iterator[tuple[str | None, int | None]] = zip(blobs, gathered.offsets, strict=True)
            version_at = dict(zip(places, _versions(gathered), strict=True))
            for place in bad:
                self.versions[version_at[place]].bad_tuples += 1

    def summary(self) -> Iterator[str]:
        """Yield the lines of the summary."""
        counts = self.versions.values()
        total = _Count(sum(c.records for c in counts), self.rows, sum(c.bad_tuples for c in counts))
        yield f"files {self.files}, {_counts(total, self.letters.total())}"
        yield from (f"  {version}: {_counts(count, count.bad_tuples)}" for version, count in sorted(self.versions.items()))
        if self.filtered:
            yield f"  rows filtered out: {self.filtered}, rows written: {self.rows - self.filtered}"
        yield from (f"  dead letters {code}: {count}" for code, count in sorted(self.letters.items()))
        if self.unopened:
            yield f"  unreadable files: {self.unopened}"


def _versions(gathered: Gathered) -> list[str]:
    return [_version(record.category, record.version) for record in gathered.records]


def _version(category: str | None, version: int | None) -> str:
    return f"{category} version {version}"


def _counts(count: _Count, dead: int) -> str:
    return f"records {count.records}, tuples {count.rows + count.bad_tuples}, rows {count.rows}, dead letters {dead}"


class _Screen:
    """Output during the run: a progress line, and complaints about files."""

    def __init__(self, files: int, *, is_shared: bool) -> None:
        """Prepare for `files` files. If the rows go to the terminal too (`is_shared`), they show the progress themselves."""
        self._progress = ProgressLine(files if files > 1 else None, on=not is_shared)

    def show(self, tally: _Tally) -> None:
        """Update the progress line."""
        self._progress.show(tally.files + tally.unopened, lambda: f"{tally.bytes / 1e6:,.0f} MB read, {tally.rows:,} rows")

    def complain(self, text: str) -> None:
        """Report what is wrong with a file."""
        self._progress.clear()
        say(f"blobtide convert: {text}", err=True)

    def clear(self) -> None:
        """Erase the progress line."""
        self._progress.clear()


@click.command(
    epilog=examples(
        "blobtide convert PT1H.json --format table",
        "blobtide convert PT1H.json other.json.gz -o rows.parquet --errors errors.ndjson",
        "zcat logs.gz | blobtide convert - --format csv > rows.csv",
        """blobtide convert PT1H.json --where "action = 'deny'" --format table""",
    )
)
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--format",
    "given",
    type=click.Choice([f.value for f in OutputFormat]),
    help="Output format; table: aligned columns for people. Default: from the suffix of --output (.parquet, .csv, .ndjson, "
    ".jsonl, .json), else ndjson. Takes precedence over the suffix.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write rows to this file instead of standard output.",
)
@click.option("--errors", type=click.Path(path_type=Path, dir_okay=False), help="Write dead letters to this file, as NDJSON.")
@click.option(
    "--errors-limit",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Maximum megabytes of dead letters; beyond that, nothing is written.",
)
@click.option("--where", help="Write only rows that meet this SQL condition (docs/reference/conditions.md).")
def command(
    files: tuple[str, ...], given: str | None, output: Path | None, errors: Path | None, *, errors_limit: int, where: str | None
) -> None:
    """Convert local flow-log files (or standard input, -) to rows, without a server.

    Accepts NSG versions 1 and 2 and VNet version 4, as any sequence of documents, arrays, single records or lines, in UTF-8 or
    UTF-16, plain, gzip or zstd; the format is detected from the content.
    Rows go to standard output, a summary to standard error. Anything broken, such as a truncated gzip file, becomes a dead
    letter, and conversion continues, also when a file cannot be opened. The exit code is 1 if anything could not be read.
    """
    form = OutputFormat(given) if given else format_of(output)
    if form is OutputFormat.PARQUET and output is None and is_terminal():
        raise click.UsageError("parquet cannot be written to a terminal: give --output FILE or redirect standard output")
    _refuse_overwriting(files, output, errors)
    selection = _selection(where)
    tally = _Tally()
    with ExitStack() as stack:
        refused = ErrorsFile(stack.enter_context(result_file(errors)), errors_limit * 1_000_000) if errors else None
        writer = stack.enter_context(row_writer(form, output))
        screen = _Screen(len(files), is_shared=output is None and is_terminal())
        _convert(files, _Outlet(selection, writer, refused, screen), tally)
        if not tally.files:
            _tell(tally, errors)
            raise BlobtideError("none of the files could be read; no result was written")
    _tell(tally, errors)
    sys.exit(DEAD_LETTERED if tally.letters or tally.unopened else 0)


def _tell(tally: _Tally, errors: Path | None) -> None:
    for line in tally.summary():
        say(line, err=True)
    if tally.letters and not errors:
        say("  use --errors FILE to keep the dead letters, with position and reason", err=True)


def _refuse_overwriting(files: tuple[str, ...], output: Path | None, errors: Path | None) -> None:
    # Not Path.resolve(), which raises for a symbolic link to itself.
    given = [os.path.realpath(name) for name in files if name != STANDARD_INPUT]
    results = [os.path.realpath(path) for path in (output, errors) if path]
    for path in results:
        if path in given or results.count(path) > 1:
            raise click.UsageError(f"{path} is given twice: input, rows and errors must be different files")


def _selection(where: str | None) -> Selection:
    try:
        return Selection.of(FLOWS, where)
    except ConfigError as error:
        raise ConfigError(f"--where: {error}") from error


@dataclass(frozen=True, slots=True)
class _Outlet:
    """Which rows go on, and where they, dead letters and news go."""

    selection: Selection
    writer: RowWriter
    refused: ErrorsFile | None
    screen: _Screen


def _convert(files: Sequence[str], outlet: _Outlet, tally: _Tally) -> None:
    places: dict[str | None, int] = {name: number for number, name in enumerate(files)}

    def write_letters(gathered: Gathered) -> None:
        tally.refuse(gathered, gathered.letters)
        if outlet.refused:
            outlet.refused.write(_in_order(gathered.letters, places))
        gathered.letters.clear()

    for chunk in _chunks(files, tally, outlet.screen):
        gathered = gather(chunk.segments, no_source, Bound(_LETTERS_AT_ONCE, write_letters))
        parsed = parse_gathered(gathered)
        tally.add(gathered, parsed)
        _write_selected(parsed.batch, outlet, tally)
        gathered.letters += chunk.letters
        write_letters(gathered)
        outlet.screen.show(tally)
    outlet.screen.clear()


def _write_selected(batch: pa.RecordBatch, outlet: _Outlet, tally: _Tally) -> None:
    selected = outlet.selection.select(pa.Table.from_batches([batch]))
    tally.filtered += selected.filtered
    for part in selected.rows.to_batches():
        if part.num_rows:
            outlet.writer.write(part)


def _in_order(letters: list[DeadLetter], places: Mapping[str | None, int]) -> list[DeadLetter]:
    return sorted(letters, key=lambda one: (places[one.blob], one.record_offset or 0, one.tuple_index or 0))


@dataclass(slots=True)
class _Chunk:
    """What is parsed in one go: segments of one or more files, and dead letters of files that break off in between."""

    segments: list[Segment] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    size: int = 0


def _chunks(files: Iterable[str], tally: _Tally, screen: _Screen) -> Iterator[_Chunk]:
    """Yield segments, batching small ones; report and skip what cannot be read."""
    chunk = _Chunk()
    for found in _found(files, tally, screen):
        if isinstance(found, DeadLetter):
            screen.complain(f"{found.blob}: {found.reason}")
            chunk.letters.append(found)
            continue
        chunk.segments.append(found)
        chunk.size += len(found.data)
        tally.bytes += len(found.data)
        if chunk.size >= CHUNK_BYTES:
            yield chunk
            chunk = _Chunk()
    yield chunk


def _found(files: Iterable[str], tally: _Tally, screen: _Screen) -> Iterator[Segment | DeadLetter]:
    for name in files:
        try:
            yield from segments_of(name)
        except BlobtideError as error:
            tally.unopened += 1
            screen.complain(str(error))
        else:
            tally.files += 1
