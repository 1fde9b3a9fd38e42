"""Reading Azure storage on a real emulator, also when requests fail on the way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.common.azure.retry import RetryPolicy
from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobInfo, ListedBlob, StorageUnavailable
from libs.common.azure.storage.blobs import AzureContainer, check_container, open_container
from libs.common.azure.storage.credentials import StorageRequest
from libs.common.azure.storage.page import _read_lean, _read_tree, parse_xml, read_page
from libs.common.azure.storage.rest import BlobService
from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import ACCOUNT, LocalAzurite
from tests.canaries import ACCOUNT_KEY
from tests.fault_proxy import Fault, FaultProxy, Reset, Short, Status, fault_proxy

pytestmark = pytest.mark.azurite
QUICK = RetryPolicy(deadline=5.0, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def account(azurite: LocalAzurite) -> StorageAccount:
    """The emulator's account."""
    return StorageAccount(connection_string=SecretStr(azurite.connection_string))


@pytest.fixture
def writer(account: StorageAccount) -> Iterator[BlobWriter]:
    """Writes to the emulator."""
    made = BlobWriter(account, "sub.dev")
    yield made
    made.close()


@pytest.fixture
def proxy(azurite: LocalAzurite) -> Iterator[FaultProxy]:
    """A failing way to the emulator."""
    with fault_proxy(azurite.blob_endpoint) as made:
        yield made


def through(proxy: FaultProxy, container: str) -> AzureContainer:
    """Return the container as seen through the proxy."""
    account = StorageAccount(account_url=proxy.url, account_key=SecretStr(ACCOUNT_KEY))
    return AzureContainer(BlobService(account, "sub.dev", QUICK), container)


def test_an_emulator_is_reached_without_the_proxy_of_the_environment(
    account: StorageAccount, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where HTTP_PROXY is set and NO_PROXY is not, storage on this machine is still read and written directly."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    writer = BlobWriter(account, "sub.dev", QUICK)
    writer.put(Target(container, "direct"), b"hello")
    writer.close()
    check_container(account, "sub.dev", container)


def described(blob: ListedBlob) -> BlobInfo:
    """Return a listed blob as `info` would describe it."""
    when = blob.last_modified, blob.creation_time, blob.archived
    return BlobInfo(blob.name, blob.etag, blob.size, blob.blob_type, *when)


@pytest.mark.parametrize("include", ["", "metadata,snapshots,deleted,uncommittedblobs,tags,copy"])
def test_a_page_of_the_emulator_is_read_as_an_xml_parser_reads_it(
    account: StorageAccount, container: str, writer: BlobWriter, include: str
) -> None:
    """Whatever the emulator writes gives the same values both ways; what it writes of usual blobs is read in one pass."""
    for name in ("plain/a", "x=/a b+c%ü.json", "y/PT1H.json"):
        writer.put(Target(container, name), b"hello")
    writer.create_append_blob(Target(container, "z"))
    service = BlobService(account, "sub.dev")
    query = {"restype": "container", "comp": "list"} | ({"include": include} if include else {})
    body = service.send(StorageRequest("GET", f"/{container}", query), lambda response: response.body)
    now = datetime.now(UTC)
    expected = [described(blob) for blob in _read_tree(parse_xml(body, "EnumerationResults"), now).blobs]
    assert [described(blob) for blob in read_page(body, now).blobs] == expected
    assert len(expected) == 4
    assert include or _read_lean(body, now) is not None, body
    writer.put(Target(container, "<&>'\"\u2028\ufffd]]>"), b"hello")
    body = service.send(StorageRequest("GET", f"/{container}", query), lambda response: response.body)
    expected = [described(blob) for blob in _read_tree(parse_xml(body, "EnumerationResults"), now).blobs]
    assert [described(blob) for blob in read_page(body, now).blobs] == expected
    service.close()


def test_listing_blocks_and_ranges(account: StorageAccount, container: str, writer: BlobWriter) -> None:
    """Names of any kind, committed blocks, append blobs and pinned ranges come as they are; versions agree everywhere."""
    strange = "x=/a b+c%&ü.json"
    writer.put(Target(container, strange), b"hello")
    writer.create_append_blob(Target(container, "y/append"))
    writer.append(Target(container, "y/append"), b"xyz")
    for number, data in enumerate((b"head", b"tail")):
        writer.stage_block(Target(container, "y/blocks"), f"{number:04}", data)
    writer.commit_blocks(Target(container, "y/blocks"), ["0000", "0001"])
    store = open_container(account, "sub.dev", container)
    listed = {blob.name: blob for blob in store.list_blobs("")}
    assert sorted(listed) == [strange, "y/append", "y/blocks"]
    assert listed["y/append"].blob_type == "AppendBlob"
    assert list(store.list_directories("")) == ["x=/", "y/"]
    for name, blob in listed.items():
        assert store.info(name) == described(blob)
        assert blob.as_of is not None
        assert timedelta(0) <= blob.as_of - blob.last_modified < timedelta(minutes=1)
        blocks = store.block_list(name)
        assert (blocks.etag, blocks.size) == (blob.etag, blob.size)
        assert [block.size for block in blocks.blocks] == ([4, 4] if name == "y/blocks" else [])
        assert store.read(name, 1, blob.size, blob.etag) == {5: b"ello", 3: b"yz", 8: b"eadtail"}[blob.size]
    assert store.read("y/blocks", 3, 3, "any") == b""
    told, newest = store.probe(), max(blob.last_modified for blob in listed.values())
    assert told is not None
    assert timedelta(0) <= told - newest < timedelta(hours=1)
    writer.append(Target(container, "y/append"), b"!")
    assert store.read("y/append", 1, 3, "") == b"yz"
    store.close()


def test_changed_shrunk_and_missing_blobs_are_told_apart(account: StorageAccount, container: str, writer: BlobWriter) -> None:
    """A pinned read of another version, a range beyond the end, and what is not there raise their own errors."""
    target = Target(container, "a")
    writer.put(target, b"0123456789")
    store = open_container(account, "sub.dev", container)
    old = store.info("a").etag
    writer.put(target, b"01234")
    for start, end, etag in ((0, 4, old), (7, 9, store.info("a").etag), (3, 9, store.info("a").etag)):
        with pytest.raises(BlobChanged):
            store.read("a", start, end, etag)
    for ask in (lambda: store.info("b"), lambda: store.block_list("b")):
        with pytest.raises(BlobGone):
            ask()
    nowhere = open_container(account, "sub.dev", "no-such-container")
    with pytest.raises(BlobGone, match="no-such-container"):
        list(nowhere.list_blobs(""))
    for ask in (lambda: nowhere.info("b"), lambda: nowhere.block_list("b")):  # that says nothing about the blob
        with pytest.raises(StorageUnavailable, match="ContainerNotFound"):
            ask()
    store.close()


def test_a_blob_that_says_it_is_compressed_is_not_decompressed(
    azurite: LocalAzurite, account: StorageAccount, container: str
) -> None:
    """Bytes and offsets are those that are stored, whatever Content-Encoding says."""
    from azure.storage.blob import BlobClient, ContentSettings

    data = bytes(range(200))
    settings = ContentSettings(content_encoding="gzip")
    with BlobClient.from_connection_string(azurite.connection_string, container, "z") as blob:
        blob.upload_blob(data, content_settings=settings)
    store = open_container(account, "sub.dev", container)
    assert store.read("z", 50, 150, store.info("z").etag) == data[50:150]
    store.close()


@pytest.mark.parametrize(
    "faults",
    [
        [Status(429, (("Retry-After", "0"),)), Status(503), Status(500), Status(408)],
        [Reset(), Reset()],
        [Short(says_length=True), Short(says_length=False)],
    ],
    ids=["throttled", "reset", "short"],
)
def test_requests_that_fail_on_the_way_are_sent_again(
    proxy: FaultProxy, container: str, writer: BlobWriter, faults: list[Fault]
) -> None:
    """Throttling, resets and cut bodies cost time, never bytes."""
    data = bytes(range(256)) * 40
    writer.put(Target(container, "a"), data)
    store = through(proxy, container)
    etag = store.info("a").etag
    proxy.faults.extend(faults)
    assert store.read("a", 100, 9000, etag) == data[100:9000]
    assert not proxy.faults
    proxy.faults.extend(faults)
    assert [blob.name for blob in store.list_blobs("")] == ["a"]
    store.close()


def test_what_keeps_failing_is_unavailable_and_redirects_are_refused(proxy: FaultProxy, container: str) -> None:
    """After the deadline the caller is told when to come back; no other host is ever asked."""
    store = through(proxy, container)
    proxy.faults.append(Status(503, (("Retry-After", "3600"),)))
    with pytest.raises(StorageUnavailable, match="503") as caught:
        list(store.list_blobs(""))
    assert caught.value.after == 3600
    proxy.faults.append(Status(307, (("Location", "http://127.0.0.1:9/elsewhere"),)))
    with pytest.raises(StorageUnavailable, match="redirect"):
        list(store.list_blobs(""))
    store.close()


def test_a_check_says_what_is_wrong(account: StorageAccount, azurite: LocalAzurite, container: str) -> None:
    """A right container passes; a missing one and a wrong key are told apart in one line that names the environment."""
    check_container(account, "sub.dev", container)
    with pytest.raises(ConfigError, match=r"sub\.dev has no container 'nowhere'"):
        check_container(account, "sub.dev", "nowhere")
    wrong = StorageAccount(account_url=azurite.blob_endpoint, account_key=SecretStr("d3Jvbmc="))
    with pytest.raises(ServerUnreachable, match=r"sub\.dev: .*key"):
        check_container(wrong, "sub.dev", container)


def test_a_rotated_key_is_picked_up(azurite: LocalAzurite, container: str, tmp_path: Path) -> None:
    """A key file that changes under a running process is read again when the old key is refused."""
    file = tmp_path / "key"
    file.write_text("d3Jvbmc=")
    store = open_container(StorageAccount(account_url=azurite.blob_endpoint, account_key_file=file), "sub.dev", container)
    with pytest.raises(StorageUnavailable, match=r"sub\.dev: .*key"):
        list(store.list_blobs(""))
    file.write_text(ACCOUNT_KEY)
    assert list(store.list_blobs("")) == []
    store.close()


def test_a_sas_and_an_unknown_host(azurite: LocalAzurite, container: str) -> None:
    """A SAS opens what it names; a host without address is named."""
    from datetime import UTC, datetime, timedelta

    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    token = generate_container_sas(
        ACCOUNT,
        container,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    store = open_container(
        StorageAccount(account_url=azurite.blob_endpoint, sas_token=SecretStr(f"?{token}")), "sub.dev", container
    )
    assert list(store.list_blobs("")) == []
    store.close()
    nowhere = StorageAccount(account_url="https://no-such-host.invalid/account", account_key=SecretStr(ACCOUNT_KEY))
    with pytest.raises(StorageUnavailable, match="no-such-host"):
        list(open_container(nowhere, "sub.dev", container).list_blobs(""))
