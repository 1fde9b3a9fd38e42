"""From a blob to rows: however Azure commits it and however it is read, the same rows come out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.segments import Segment
from libs.demo.commits import Logs, collect
from libs.demo.estate import Estate
from libs.demo.spec import EstateSpec, LogKind, Style
from services.ingest.cutting.window import SizeLimits
from services.parser.flows.kernel import parse
from tests.blob_container import FakeContainer
from tests.blob_reading import Desk, assert_tiles

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
# What the truth does not say: the reader names blob and generation.
VALUES = [
    "time",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "protocol",
    "direction",
    "action",
    "state",
    "encryption",
    "packets_sent",
    "bytes_sent",
    "packets_received",
    "bytes_received",
    "rule",
    "acl_id",
    "mac",
    "record_time",
    "record_offset",
    "tuple_index",
]
WORDS = {"direction", "action", "state", "encryption", "rule", "acl_id", "mac"}
LIMITS = st.builds(SizeLimits, segment=st.integers(10_000, 100_000), line=st.just(1_048_576), record=st.just(16_777_216))


@cache
def logs(kind: LogKind, style: Style) -> Logs:
    """One interface's hour: its one or two blobs and their truth."""
    spec = EstateSpec(seed=5, nics=1, tuples_per_minute=150, kinds=(kind,), start=START, minutes=20, style=style)
    return collect(Estate(spec).commits())


def rows(segments: Sequence[Segment]) -> pa.Table:
    """Parse segments as one poll and return the values."""
    parsed = parse(segments)
    assert parsed.dead_letters == []
    return pa.Table.from_batches([parsed.batch]).select(VALUES)


def plain(table: pa.Table) -> pa.Table:
    """Return a table whose equality does not depend on encodings and chunks."""
    columns = {name: table[name].cast(pa.string()) if name in WORDS else table[name] for name in table.column_names}
    return pa.table(columns).combine_chunks()


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("kind", LogKind)
@settings(max_examples=30)
@given(data=st.data())
def test_any_way_of_cutting_a_blob_into_commits_and_reads_gives_the_same_rows(
    kind: LogKind, style: Style, data: st.DataObject
) -> None:
    """Blocks of any size, commits of any number of blocks, reads of any size, polls of any number of segments: the truth."""
    content = logs(kind, style)
    blob, text = next(iter(content.blobs.items()))
    truth = content.truth.filter(pa.compute.equal(content.truth["blob"].cast(pa.string()), str(blob))).select(VALUES)

    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12), label="block ends"))
    blocks = [(f"{start:032d}", text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    commits = sorted({*data.draw(st.sets(st.integers(1, len(blocks)), max_size=5), label="blocks a commit"), len(blocks)})
    desk = Desk(
        container=FakeContainer(),
        limits=data.draw(LIMITS),
        allowance=data.draw(st.integers(65_536, 1_000_000), label="bytes a read"),
    )
    for count in commits:
        desk.container.commit(desk.name, blocks[:count])
        desk.read(closed=count == len(blocks))

    assert desk.dead_letters == []
    assert_tiles(desk.segments)
    polls = sorted(data.draw(st.sets(st.integers(0, len(desk.segments)), max_size=3), label="segments a poll"))
    parts = [rows(desk.segments[start:end]) for start, end in zip([0, *polls], [*polls, len(desk.segments)], strict=True)]
    got, expected = plain(pa.concat_tables(map(plain, parts))), plain(truth)
    assert [name for name in VALUES if not got[name].cast(expected[name].type).equals(expected[name])] == []
