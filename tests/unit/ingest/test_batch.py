"""What a transaction of ingest is made of, and that it goes when nobody needs it any more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from libs.common.kafka.records import TopicPartition
from libs.common.messages.events import Stream
from libs.common.settings.kafka import TopicSettings
from services.ingest.batch import Batch
from tests.blob_reading import Desk

RECORD = b'{"time":0,"category":"FlowLogFlowEvent"}'


@pytest.fixture
def no_search_for_cycles() -> Iterator[None]:
    """Let nothing be freed but what the last reference has gone of, as between two of a process's seldom searches."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_search_for_cycles")
def test_a_batch_is_freed_with_the_last_reference_to_it() -> None:
    """A batch has megabytes of segments: were it part of a cycle, dozens of them would be in memory at a time."""
    desk = Desk()
    desk.container.commit(desk.name, [("A0", b'{"records":['), ("D0", RECORD)])
    (step,) = desk.read()
    assert step.segments
    batch = Batch(TopicSettings())
    assert batch.add(TopicPartition("t", 0), b"key", Stream.FLOW_LOGS, step) is not None
    outputs = batch.outputs()
    for output in outputs:
        if output.placed is not None:
            output.placed(7)
    assert batch.placed[b"key"].offset == 7
    gone = weakref.ref(batch)
    del batch, outputs, output
    assert gone() is None
