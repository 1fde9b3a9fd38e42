"""A container with ingest on it, for tests on real Kafka and Azurite: what is written, announced, published and read back."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobBlock, BlobServiceClient

from libs.common.errors import ServerUnreachable
from libs.common.kafka.readers.follow import Follower, Since
from libs.common.kafka.records import Inbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import (
    BlobCheckpoint,
    BlobClosed,
    BlobCompletion,
    BlobForgotten,
    BlobObserved,
    CheckpointStatus,
    Stream,
    decode_event,
    encode_event,
    event_headers,
)
from libs.common.messages.segments import Segment
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.ingest.main import build
from tests.running import running
from tests.service_process import service_process

HEAD, TAIL = ("A" + "0" * 32, b'{"records":['), ("Z" + "0" * 32, b"]}")
WAIT_SECONDS = 150.0


@dataclass
class Site:
    """One container, its announcements, and what ingest made of them."""

    kafka: KafkaSettings
    topics: TopicSettings
    connection_string: str
    container: str

    def __post_init__(self) -> None:
        self.service = BlobServiceClient.from_connection_string(self.connection_string, use_env_settings=False)
        from confluent_kafka import Producer

        self.producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers, "partitioner": "murmur2_random"})
        self.contents: dict[str, list[tuple[str, bytes]]] = {}
        self._checkpoints: dict[bytes | None, BlobCheckpoint] = {}
        self._follower = self._follow(self.topics.checkpoints)

    def commit(self, name: str, data_blocks: list[tuple[str, bytes]], *, tail: bool = True) -> None:
        """Commit a flow-log blob of these data blocks, as Azure does; only new blocks are staged."""
        blocks = [HEAD, *data_blocks, *([TAIL] if tail else [])]
        client = self.service.get_blob_client(self.container, name)
        known = {block_id for block_id, _ in self.contents.get(name, [])}
        for block_id, data in blocks:
            if block_id not in known:
                client.stage_block(block_id, data)
        client.commit_block_list([BlobBlock(block_id) for block_id, _ in blocks])
        self.contents[name] = blocks

    def observe(self, name: str, **more: Any) -> BlobObserved:
        """Announce a blob as it is now."""
        found = self.service.get_blob_client(self.container, name).get_blob_properties()
        event = BlobObserved(
            blob=self.id(name), subscription="s", environment="e", stream=Stream.FLOW_LOGS, etag=found.etag.strip('"'),
            size=found.size, blob_type=str(found.blob_type.value), last_modified=found.last_modified,
            creation_time=found.creation_time, observed_at=datetime.now(UTC),
        )  # fmt: skip
        event = replace(event, **more)
        self.announce(event)
        return event

    def close(self, name: str) -> None:
        """Announce that a blob is closed as it is now."""
        seen = self.observe(name)
        self.announce(BlobClosed(seen.blob, seen.etag, seen.size, seen.last_modified, datetime.now(UTC), 900))

    def announce(self, event: BlobObserved | BlobClosed | BlobForgotten) -> None:
        """Write an event."""
        self.producer.produce(self.topics.blobs, encode_event(event), event.blob.encode(), headers=list(event_headers(event)))
        assert self.producer.flush(30) == 0

    def id(self, name: str) -> str:
        """Return the blob id of a name."""
        return str(BlobId("s.e", self.container, name))

    def settings(self, **ingest: Any) -> dict[str, Any]:
        """Return settings as they stand in a file."""
        environment = {
            "storage": {"connection_string": self.connection_string},
            "sources": [{"container": self.container, "layout": "flat"}],
        }
        return {
            "kafka": {
                "bootstrap_servers": self.kafka.bootstrap_servers,
                "group_prefix": self.kafka.group_prefix,
                "session_timeout_ms": 6000,
                "transaction_timeout_ms": 10000,
            },
            "topics": self.topics.model_dump(),
            "subscriptions": {"s": {"environments": {"e": environment}}},
            "ingest": {"commit_seconds": 0.2, **ingest},
        }

    def read(self, topic: str) -> list[Inbound]:
        """Return everything committed in a topic."""
        follower = self._follow(topic)
        try:
            return list(follower.backlog())
        finally:
            follower.close()

    def _follow(self, topic: str) -> Follower:
        """Follow a topic, which may have been created a moment ago and have no leader yet."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            follower = Follower(self.kafka, (topic,), Since(0))
            try:
                follower.open()
            except ServerUnreachable:
                follower.close()
                if time.monotonic() > deadline:
                    raise
            else:
                return follower

    def segments(self) -> dict[str, list[Segment]]:
        """Return the flow-log segments by blob name, in topic order."""
        found: dict[str, list[Segment]] = defaultdict(list)
        for record in self.read(self.topics.raw_flow_logs):
            segment = Segment.from_message(record.headers, record.value or b"")
            found[BlobId.parse(segment.blob).name].append(segment)
        return found

    def checkpoint(self, name: str) -> BlobCheckpoint | None:
        """Return the newest checkpoint of a blob."""
        for record in self._follower.poll(0.1):
            found = decode_event(record.value or b"")
            assert isinstance(found, BlobCheckpoint)
            self._checkpoints[record.key] = found
        return self._checkpoints.get(self.id(name).encode())

    def completions(self, name: str) -> list[BlobCompletion]:
        """Return the completion events of a blob."""
        events = [decode_event(r.value or b"") for r in self.read(self.topics.completions) if r.key == self.id(name).encode()]
        return [event for event in events if isinstance(event, BlobCompletion)]

    def shut(self) -> None:
        """Disconnect."""
        self.service.close()
        self._follower.close()

    def until_closed(self, name: str) -> BlobCheckpoint:
        """Wait until a blob is complete."""
        return self.until(name, lambda c: c.status is CheckpointStatus.COMPLETE)

    def until_read(self, name: str, etag: str) -> BlobCheckpoint:
        """Wait until a blob has been read as it was with this ETag."""
        return self.until(name, lambda c: c.etag == etag)

    def until(self, name: str, wanted: Callable[[BlobCheckpoint], bool]) -> BlobCheckpoint:
        """Wait for a checkpoint; one that was seen before will do."""
        deadline = time.monotonic() + WAIT_SECONDS
        found = self._checkpoints.get(self.id(name).encode())
        while found is None or not wanted(found):
            found = self.checkpoint(name)
            assert time.monotonic() < deadline, f"checkpoint of {name} is {found}"
        return found


@contextlib.contextmanager
def ingesting(site: Site, **ingest: Any) -> Iterator[None]:
    """Run ingest in a thread of this process."""
    with running(build(Settings(**site.settings(**ingest)))):
        yield


@contextlib.contextmanager
def process(site: Site, directory: Path, ordinal: int = 0, crash: str = "", **ingest: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run ingest as a process of its own."""
    with service_process("ingest", site.settings(**ingest), directory, ordinal, crash) as child:
        yield child


def block_id(number: int) -> str:
    """Return a block id as Azure makes them: equally long for all blocks."""
    return f"D{number:032x}"


def record(number: int, tuples: int = 20) -> bytes:
    """Return a record that is as long as its number needs it to be."""
    flows = ",".join(f'"{number},10.0.0.{i},52.0.0.1,{40000 + i},443,6,O,C,NX,1,2,3,4"' for i in range(tuples))
    group = f'{{"aclID":"a","flowGroups":[{{"rule":"r","flowTuples":[{flows}]}}]}}'
    return f'{{"time":"t{number}","category":"FlowLogFlowEvent","flowRecords":{{"flows":[{group}]}}}}'.encode()


def minute(number: int) -> tuple[str, bytes]:
    """Return the data block of one minute: two records, with a comma before all but the first block."""
    text = record(2 * number) + b"," + record(2 * number + 1)
    return block_id(number), text if number == 0 else b"," + text


def text_of(blocks: list[tuple[str, bytes]]) -> bytes:
    """Return a document without its tail."""
    return HEAD[1] + b"".join(data for _, data in blocks)
