"""Blobs in a local Azurite: upload an estate, announce it, and read plain ranges of it as the limit of any reader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from azure.storage.blob import BlobServiceClient

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import ENVIRONMENT, SUBSCRIPTION, Data, FlowBlob
from benchmarks.measured import Measured, Sample, Work
from libs.common.azure.storage.api import ListedBlob
from libs.common.azure.storage.blobs import open_container
from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.records import Outbound
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobObserved, Stream, encode_event, event_headers
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.storage import StorageAccount, account_alias
from libs.local.azurite import LocalAzurite

SDK_READS: Final = "range reads, Azure SDK"
OWN_READS: Final = "range reads, own client"
_UPLOADS: Final = 8
ALIAS: Final = account_alias(SUBSCRIPTION, ENVIRONMENT)


def container_of(data: Data) -> str:
    """Return the only container of an estate."""
    return data.blobs[0].id.container


def upload(azurite: LocalAzurite, data: Data) -> None:
    """Write all blobs, each with one block list."""
    with closing(BlobWriter(_account(azurite), ALIAS)) as writer:
        writer.create_container(container_of(data))

        def write(blob: FlowBlob) -> None:
            target = Target(blob.id.container, blob.id.name)
            for block in blob.blocks:
                writer.stage_block(target, block.id, block.data)
            writer.commit_blocks(target, [block.id for block in blob.blocks])

        with ThreadPoolExecutor(_UPLOADS) as pool:
            list(pool.map(write, data.blobs))


def announcements(azurite: LocalAzurite, data: Data, topic: str, replay_id: str = "") -> Iterator[Outbound]:
    """Yield what a monitor would write about the existing blobs; a different `replay_id` causes them to be read again."""
    for info in _listed(azurite, data):
        blob = BlobId(ALIAS, container_of(data), info.name)
        event = BlobObserved(
            blob=str(blob),
            subscription=SUBSCRIPTION,
            environment=ENVIRONMENT,
            stream=Stream.FLOW_LOGS,
            etag=info.etag,
            size=info.size,
            blob_type=info.blob_type,
            last_modified=info.last_modified,
            creation_time=info.creation_time,
            observed_at=datetime.now(UTC),
            replay_id=replay_id,
        )
        yield Outbound(topic, encode_event(event), blob.key, event_headers(event))


def measure_reads(azurite: LocalAzurite, data: Data, repeats: int) -> Iterator[Measured]:
    """Read all blobs in ranges and discard the bytes, with Microsoft's SDK and with the client that ingest uses."""
    infos = list(_listed(azurite, data))
    work = Work(data.tuples, data.blob_bytes, len(data.blobs))
    with (
        BlobServiceClient.from_connection_string(azurite.connection_string) as service,
        closing(open_container(_account(azurite), ALIAS, container_of(data))) as container,
    ):
        sdk = service.get_container_client(container_of(data))

        def by_sdk(info: ListedBlob, start: int, end: int) -> int:
            return len(sdk.download_blob(info.name, offset=start, length=end - start).readall())

        def by_own(info: ListedBlob, start: int, end: int) -> int:
            return len(container.read(info.name, start, end, info.etag))

        for stage, read in ((SDK_READS, by_sdk), (OWN_READS, by_own)):
            samples = tuple(_read_all(infos, read, work.bytes) for _ in range(repeats))
            yield Measured(stage, data.name, work, samples, "bytes in memory")


def _read_all(infos: list[ListedBlob], read: Callable[[ListedBlob, int, int], int], expected: int) -> Sample:
    settings = IngestSettings()

    def whole(info: ListedBlob) -> int:
        starts = range(0, info.size, settings.read_bytes)
        return sum(read(info, start, min(info.size, start + settings.read_bytes)) for start in starts)

    cpu, wall = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(settings.concurrency) as pool:
        found = sum(pool.map(whole, infos))
    if found != expected:
        raise BenchmarkFailed(f"{found} of {expected} bytes were read")
    return Sample(time.process_time() - cpu, time.monotonic() - wall)


def _listed(azurite: LocalAzurite, data: Data) -> Iterator[ListedBlob]:
    with closing(open_container(_account(azurite), ALIAS, container_of(data))) as container:
        yield from container.list_blobs("")


def _account(azurite: LocalAzurite) -> StorageAccount:
    return StorageAccount.model_validate({"connection_string": azurite.connection_string})
