"""The parser's transform: messages in, messages out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from libs.common.errors import ConfigError, DeadLetterLimit
from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.batches import Outlet, slices
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows, encode_rows
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from libs.common.settings.parser import ParserSettings
from services.parser import app, letters
from services.parser.app import Parser, portions
from services.parser.flows.kernel import parse
from services.parser.main import build
from services.parser.quarantine import Quarantine, Register
from services.parser.streams import FlowKernel, InputStream
from services.parser.suspicion import Suspicion, Threshold
from services.parser.triage import Triage
from tests.checkpoint_table import FakeTable
from tests.unit.parser.test_kernel import GOOD, vnet

OUTLET = Outlet("Errors", batch_bytes=1_000_000, dead_letter_limit=0.5)
STREAMS = {"Raw": InputStream(FlowKernel(), {FLOWS.name: "Flows"})}


def flow_parser(outlet: Outlet = OUTLET, clock: Callable[[], float] = time.time) -> Parser:
    """Return a parser that puts no blob in quarantine."""
    register = Register("Quarantine", partial(FakeTable, lambda: iter(())), patience=1.0)
    triage = Triage(Suspicion(Threshold(share=1.0, records=100)), Quarantine(register))
    return Parser(outlet, STREAMS, triage, clock)


def segment(blob: int, *tuples: object) -> Segment:
    """Return a segment of one record."""
    data = b"," + json.dumps(vnet(*tuples)).encode()
    return Segment(f"a.b/logs/{blob}", "g", 14, 14 + len(data), 1, SegmentFormat.VNET, data)


def message(partition: int, offset: int, content: Segment) -> Inbound:
    """Return a segment as a message."""
    return Inbound("Raw", partition, offset, 0, content.blob.encode(), content.data, content.headers())


def test_batches_larger_than_messages_are_refused_at_the_start() -> None:
    """The setting and what it must fit are named."""
    small = Settings(kafka=KafkaSettings(message_max_bytes=1_000_000))
    with pytest.raises(ConfigError, match="batch_bytes must fit in kafka"):
        build(small)
    build(small.model_copy(update={"parser": ParserSettings(batch_bytes=900_000)}))


def test_a_poll_leaves_one_batch_a_partition_on_its_own_partition() -> None:
    """Segments of one partition become one flow batch with the same partition number, in order."""
    polled = [message(number % 2, number, segment(number, GOOD, GOOD)) for number in range(6)]
    outputs = flow_parser().handle(polled)
    assert [(out.topic, out.partition, dict(out.headers)["rows"]) for out in outputs] == [
        ("Flows", 0, b"6"),
        ("Flows", 1, b"6"),
    ]
    blobs = decode_rows(FLOWS, outputs[0].value or b"")["blob"].to_pylist()
    assert blobs == [f"a.b/logs/{number}" for number in (0, 0, 2, 2, 4, 4)]


def test_rows_stay_on_their_partition_whatever_becomes_of_other_rows() -> None:
    """Partitions are parsed together; bad tuples, partitions without a row and messages that are no segments move nothing."""
    broken = Inbound("Raw", 0, 0, 0, b"key", b"value", ())
    polled = [
        message(2, 0, segment(5, GOOD, "bad", GOOD)),
        broken,
        message(0, 1, segment(1, "bad", GOOD)),
        message(1, 0, segment(4, "bad")),
        message(2, 1, segment(6, "bad")),
        message(0, 2, segment(2, GOOD, GOOD, GOOD)),
        message(2, 2, segment(7, GOOD)),
    ]
    outputs = [out for out in flow_parser().handle(polled) if out.topic == "Flows"]
    found = [(out.partition, decode_rows(FLOWS, out.value or b"")["blob"].to_pylist()) for out in outputs]
    assert [(partition, [int(blob[-1]) for blob in blobs]) for partition, blobs in found] == [(0, [1, 2, 2, 2]), (2, [5, 5, 7])]


def test_a_partition_is_cut_only_if_it_is_larger_than_a_piece() -> None:
    """Many pieces change no batch of a partition that fits in one; a larger one leaves as several, in order."""
    one = len(segment(0, GOOD).data)
    polled = [message(number // 3, number, segment(number % 10, GOOD)) for number in range(9)]
    polled += [message(3, number, segment(number % 10, GOOD)) for number in range(9, 19)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "PARSE_BYTES", 4 * one)
        outputs = flow_parser().handle(polled)
    rows = [(out.partition, int(dict(out.headers)["rows"])) for out in outputs]
    assert rows == [(0, 3), (1, 3), (2, 3), (3, 4), (3, 4), (3, 2)]
    blobs = [int(blob[-1]) for out in outputs for blob in decode_rows(FLOWS, out.value or b"")["blob"].to_pylist()]
    assert blobs == [number % 10 for number in range(19)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9))))
def test_pieces_tile_what_is_cut_and_are_bounded(found: list[tuple[int, int]]) -> None:
    """Whatever the sizes, nothing is left out or stands twice, and no piece is larger than the limit and one message."""
    messages = sorted(found, key=itemgetter(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "PARSE_BYTES", 20)
        cuts = list(portions(messages))
    assert [messages[n] for cut in cuts for n in range(cut.start, cut.stop)] == messages
    assert all(sum(size for _, size in messages[cut][:-1]) < 20 for cut in cuts)


def test_what_cannot_be_parsed_goes_to_the_errors_topic_with_its_coordinates() -> None:
    """Bad tuples and messages that are no segments become dead letters beside the rows of the others."""
    broken = Inbound("Raw", 3, 7, 0, b"key", b"value", (("type", b"segment"),))
    empty = Inbound("Raw", 3, 8, 0, b"key", None, ())
    outputs = flow_parser().handle([broken, message(3, 9, segment(1, *[GOOD] * 9, "bad")), empty])
    letters = [(out.topic, out.key, out.value, dict(out.headers)) for out in outputs if out.topic == "Errors"]
    assert [(key, value) for _, key, value, _ in letters] == [(b"key", b"value"), (b"key", b""), (b"a.b/logs/1", b"bad")]
    assert [headers["code"] for *_, headers in letters] == [b"bad_message", b"bad_message", b"short_tuple"]
    assert [headers["source-offset"] for *_, headers in letters] == [b"7", b"8", b"9"]
    assert letters[2][3]["tuple-index"] == b"9"


def test_large_results_are_cut_to_the_largest_batch() -> None:
    """Batches stay below the limit, dictionaries hold only what a batch uses, and together they are the whole."""
    batch = parse([segment(number, *[GOOD] * 20) for number in range(200)]).batch
    parts = list(slices(FLOWS, batch, 100_000))
    tables = [decode_rows(FLOWS, part.data) for part in parts]
    assert len(parts) > 3
    assert all(len(part.data) <= 100_000 for part in parts)
    assert [row for table in tables for row in table["blob"].to_pylist()] == batch["blob"].to_pylist()
    assert all(len(table["blob"].chunk(0).dictionary) == len(set(table["blob"].to_pylist())) for table in tables)
    assert list(slices(FLOWS, batch.slice(0, 0), 100_000)) == []
    assert len(encode_rows(FLOWS, batch)) > 100_000


def test_a_row_that_fits_in_no_message_costs_no_other_row() -> None:
    """Names that only one blob has weigh on no batch of another; what is too large is named by its place."""
    long = dict.fromkeys(("flowLogGUID", "flowLogResourceID", "targetResourceID", "systemId"), "€" * 1_000)
    data = b"," + json.dumps(vnet(GOOD, GOOD) | long).encode()
    large = Segment("a.b/logs/large", "g", 14, 14 + len(data), 1, SegmentFormat.VNET, data)
    polled = [message(0, 5, segment(1, *[GOOD] * 50)), message(0, 6, large), message(0, 7, segment(2, *[GOOD] * 50))]
    outputs = flow_parser(replace(OUTLET, room=lambda _: 16_384)).handle(polled)
    rows = [
        blob for out in outputs if out.topic == "Flows" for blob in decode_rows(FLOWS, out.value or b"")["blob"].to_pylist()
    ]
    assert rows == ["a.b/logs/1"] * 50 + ["a.b/logs/2"] * 50
    letters = [(out.key, out.value, dict(out.headers)) for out in outputs if out.topic == "Errors"]
    assert [(key, value) for key, value, _ in letters] == [(b"a.b/logs/large", b"")] * 2
    assert [(h["code"], h["record-offset"], h["tuple-index"], h["source-offset"]) for *_, h in letters] == [
        (b"too_large", b"15", b"0", b"6"),
        (b"too_large", b"15", b"1", b"6"),
    ]


def test_too_many_dead_letters_stop_the_service() -> None:
    """When more than the allowed share of a sensible number of tuples is bad, nothing is returned."""
    parser = flow_parser()
    assert parser.handle([message(0, 0, segment(0, "bad"))]), "one bad tuple says nothing yet"
    parser.committed()
    assert parser.handle([message(0, 1, segment(0, *[GOOD] * 500, *["bad"] * 490))]), "below the limit"
    parser.committed()
    with pytest.raises(DeadLetterLimit):
        parser.handle([message(0, 2, segment(0, *["bad"] * 300))])


def test_what_aborted_transactions_bring_again_counts_once() -> None:
    """The same bad tuples, however often they come, stop nothing that they would not stop when they come once."""
    parser = flow_parser()
    parser.handle([message(0, 0, segment(0, *[GOOD] * 9_000))])
    parser.committed()
    for _ in range(5):
        assert len(parser.handle([message(0, 1, segment(0, *["bad"] * 600))])) == 600
    parser.committed()
    with pytest.raises(DeadLetterLimit, match="1200 records in a row"):
        parser.handle([message(0, 2, segment(0, *["bad"] * 600))])


def test_with_a_limit_of_one_everything_may_be_a_dead_letter() -> None:
    """An operator who allows all of them gets all of them, however many come at once or in a row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "MOST_LETTERS", 100)
        parser = flow_parser(replace(OUTLET, dead_letter_limit=1.0))
        for offset in range(3):
            assert len(parser.handle([message(0, offset, segment(0, *["bad"] * 1_000))])) == 1_000
            parser.committed()


@pytest.mark.parametrize("data", [b"[1]," * 2_000, json.dumps(vnet(*[""] * 2_000)).encode()], ids=["records", "tuples"])
def test_more_dead_letters_than_can_be_held_stop_the_service_before_they_are_made(data: bytes) -> None:
    """Small bad records or tuples are so many that their letters would fill the memory: no more are made than may be held."""
    made: list[DeadLetter] = []

    def make(**values: Any) -> DeadLetter:
        made.append(DeadLetter(**values))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "MOST_LETTERS", 500)
        patch.setattr(letters, "DeadLetter", make)
        with pytest.raises(DeadLetterLimit, match="dead_letter_limit to 1"):
            flow_parser().handle([message(0, 0, Segment("a.b/c", "g", 0, len(data), 0, SegmentFormat.RECORDS, data))])
    assert len(made) == 500


def test_metrics_move() -> None:
    """Rows, records, segments, dead letters and the age of the newest record count when they are committed, and once."""

    def values() -> list[float]:
        names = ["segments_total", "records_total", "tuples_total", "batch_rows_sum", "end_to_end_latency_seconds_sum"]
        bad = REGISTRY.get_sample_value("blobtide_parser_dead_letters_total", {"code": "short_tuple"})
        return [*(REGISTRY.get_sample_value(f"blobtide_parser_{name}") or 0.0 for name in names), bad or 0.0]

    before = values()
    parser = flow_parser(clock=lambda: 1663146052.5625085 + 30)
    for _ in range(3):
        parser.handle([message(0, 0, segment(0, GOOD, GOOD, "bad"))])
    assert values() == before, "nothing is committed yet"
    parser.committed()
    assert [after - start for after, start in zip(values(), before, strict=True)] == pytest.approx(
        [1, 1, 2, 2, 30, 1], abs=1e-3
    )
