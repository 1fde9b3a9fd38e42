"""Answers of storage, without a server: what failures mean, when requests are sent again, what is no answer."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.azure.retry import Retrier, RetryPolicy, Transient
from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobUnreadable, StorageRefused, StorageUnavailable
from libs.common.azure.storage.blobs import AzureContainer, open_container
from libs.common.azure.storage.credentials import (
    MOST_BYTES,
    StorageRequest,
    resolve,
)
from libs.common.azure.storage.failures import Refused, WrongBlobType, failure
from libs.common.azure.storage.rest import BlobService
from libs.common.errors import ConfigError
from libs.common.settings.storage import StorageAccount
from tests.metric_values import since_now

KEY = "c2VjcmV0LWtleQ=="


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "BlobNotFound", BlobGone),
        (404, "ContainerNotFound", StorageRefused),
        (404, "AccountNotFound", StorageRefused),
        (404, "", StorageRefused),
        (412, "ConditionNotMet", BlobChanged),
        (304, "", BlobChanged),
        (416, "InvalidRange", BlobChanged),
        (409, "BlobArchived", BlobUnreadable),
        (409, "BlobUsesCustomerSpecifiedEncryption", BlobUnreadable),
        (409, "InvalidBlobType", WrongBlobType),
        (401, "InvalidAuthenticationInfo", Refused),
        (403, "AuthenticationFailed", Refused),
        (403, "AuthorizationPermissionMismatch", Refused),
        (429, "", Transient),
        (408, "", Transient),
        (500, "InternalError", Transient),
        (503, "ServerBusy", Transient),
        (400, "InvalidUri", StorageRefused),
        (409, "ContainerBeingDeleted", StorageRefused),
        (501, "", StorageUnavailable),
    ],
)
def test_every_answer_has_one_meaning(status: int, code: str, kind: type[Exception]) -> None:
    """Status and error code decide which error is raised; it names the environment."""
    error = failure("sub.dev", "/c/name", status, {"x-ms-error-code": code, "Retry-After": "7"})
    assert type(error) is kind
    assert "sub.dev" in str(error)
    if isinstance(error, Transient):
        assert error.after == 7


def test_a_container_that_cannot_be_listed_is_gone_whatever_the_code() -> None:
    """Whoever lists asks for the container itself, so every 404 is about it."""
    for code in ("ContainerNotFound", "AccountNotFound", ""):
        assert type(failure("s.e", "/c", 404, {"x-ms-error-code": code})) is BlobGone


def test_refusals_say_what_to_do() -> None:
    """A wrong key and a missing role are told apart, and a redirect is named."""
    said = {
        str(failure("s.e", "/c", 403, {"x-ms-error-code": code})) for code in ("AuthenticationFailed", "AuthorizationFailure")
    }
    assert len(said) == 2
    assert "account_url" in str(failure("s.e", "/c", 307, {"Location": "https://evil.example/"}))


def _failing(times: int, after: float | None = None) -> Any:
    left = [times]

    def attempt() -> str:
        if left[0]:
            left[0] -= 1
            raise Transient("busy", after=after)
        return "done"

    return attempt


def test_waits_grow_at_random_and_obey_the_server() -> None:
    """The first wait is short, later ones longer up to a limit, none shorter than the server asks for."""
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    retrier = Retrier(RetryPolicy(deadline=1e9), wait, StorageUnavailable)
    assert retrier.call(_failing(12)) == "done"
    assert 0.1 <= waits[0] <= 0.2
    assert 4 <= min(waits[7:]) <= max(waits) <= 8
    waits.clear()
    retrier.call(_failing(2, after=3.0))
    assert waits == [3.0, 3.0]


def test_retries_end_at_the_deadline_and_when_the_client_closes() -> None:
    """What keeps failing becomes StorageUnavailable that says how often it was tried and when to come back."""
    now = [0.0]

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return False

    with pytest.raises(StorageUnavailable, match=r"busy \(\d+ tries\)"):
        Retrier(RetryPolicy(deadline=30), wait, StorageUnavailable, clock=lambda: now[0]).call(_failing(10_000))
    assert 20 < now[0] <= 30
    with pytest.raises(StorageUnavailable) as caught:
        Retrier(RetryPolicy(deadline=30), wait, StorageUnavailable).call(_failing(1, after=600.0))
    assert caught.value.after == 600
    with pytest.raises(StorageUnavailable, match="closing"):
        Retrier(RetryPolicy(), lambda _: True, StorageUnavailable).call(_failing(1))


def test_a_name_that_could_leave_the_container_is_never_sent() -> None:
    """Dot segments are refused before any request."""
    account = StorageAccount(connection_string=SecretStr("UseDevelopmentStorage=true"))
    container = AzureContainer(BlobService(account, "s.e"), "logs")
    with pytest.raises(BlobUnreadable):
        container.info("../other/secret")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither a login nor its parts print what they keep."""
    (tmp_path / "key").write_text(KEY)
    login = resolve(StorageAccount(account_name="account", account_key_file=tmp_path / "key"), "s.e")
    assert "secret" not in repr(login)
    assert KEY not in repr(login)


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Serve these answers, one a connection, on this machine; give host and port, and what was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                with server.accept()[0] as connection:
                    asked.append(connection.recv(65_536))
                    with suppress(ConnectionError):  # the other side may have enough
                        connection.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked


def answer(body: bytes, *headers: str) -> bytes:
    """Return an answer with status 200."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


EMPTY_LIST = answer(b"<EnumerationResults><Blobs/></EnumerationResults>")
PROPERTIES = b"<Etag>0x1</Etag><Content-Length>1</Content-Length><Last-Modified>%s</Last-Modified>"


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>please sign in</body></html>",
        b"no xml",
        b"<EnumerationResults><Blobs><Blob><Name>a</Name><Properties/></Blob></Blobs></EnumerationResults>",
        b"<EnumerationResults><Blobs><Blob><Name>a</Name><Properties>"
        + PROPERTIES % b"yesterday"
        + b"</Properties></Blob></Blobs></EnumerationResults>",
    ],
)
def test_an_answer_that_is_no_listing_is_asked_for_again(body: bytes) -> None:
    """A page of something on the way is no empty container, and a missing or broken value ends nobody; it is counted."""
    counted = [since_now(f"blobtide_storage_{name}_total", account="s.e") for name in ("requests", "retries")]
    with answering(answer(body), EMPTY_LIST) as (address, asked):
        account = StorageAccount(account_url=f"http://{address}/a", account_key=SecretStr(KEY))
        assert list(open_container(account, "s.e", "logs").list_blobs("")) == []
        assert len(asked) == 2
    assert [moved() for moved in counted] == [2, 1]


def test_an_answer_without_its_headers_is_asked_for_again() -> None:
    """So are block lists and properties that lack what they must say."""
    blocks = b"<BlockList><CommittedBlocks><Block><Name>A</Name><Size>1</Size></Block></CommittedBlocks></BlockList>"
    when = "Last-Modified: Fri, 01 May 2026 12:00:00 GMT"
    whole = answer(blocks, "ETag: 0x1", "x-ms-blob-content-length: 1", when)
    with answering(answer(blocks), answer(b"<html/>"), whole) as (address, asked):
        account = StorageAccount(account_url=f"http://{address}/a", account_key=SecretStr(KEY))
        assert open_container(account, "s.e", "logs").block_list("a").size == 1
        assert len(asked) == 3


def test_a_body_that_comes_in_drops_is_given_up() -> None:
    """A peer that sends a little now and then would never run into a timeout; a large body may take its time."""
    seconds = chain((0.0, 80.0, 100.0), repeat(120.0))
    large = bytes(4_194_304)
    with answering(answer(b"drop"), answer(large)) as (address, _):
        account = StorageAccount(account_url=f"http://{address}/a", account_key=SecretStr(KEY))
        service = BlobService(account, "s.e", RetryPolicy(deadline=0.0), clock=lambda: next(seconds))
        with pytest.raises(StorageUnavailable, match="too slowly: 4 bytes in 80 s"):
            service.send(StorageRequest("GET", "/logs/a"), lambda response: response.body)
        assert service.send(StorageRequest("GET", "/logs/a"), lambda response: response.body) == large


def test_a_proxy_is_told_where_to_go_and_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain request carries the whole address, the proxy's credentials, and the host that is meant."""
    with answering(EMPTY_LIST) as (address, asked):
        monkeypatch.setenv("http_proxy", f"http://us%40er:pass@{address}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        account = StorageAccount(
            account_url="http://azurite:10000/a", account_key=SecretStr(KEY), allow_plaintext_credentials=True
        )
        assert list(open_container(account, "s.e", "logs").list_blobs("")) == []
    (request,) = asked
    assert request.startswith(b"GET http://azurite:10000/a/logs?restype=container&comp=list&maxresults=2000 HTTP/1.1")
    headers = request.lower().split(b"\r\n")
    assert b"host: azurite:10000" in headers
    assert b"proxy-authorization: basic " + base64.b64encode(b"us@er:pass").lower() in headers


@pytest.mark.parametrize(
    "proxy", ["proxy:3128", "socks5://proxy:1080", "http://user:S3/cret@proxy:3128", "http://user:cret@:x"]
)
def test_a_proxy_that_is_no_address_is_one_clear_line_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which variable is meant and how it should look, and shows nothing of it."""
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ConfigError, match="https_proxy") as caught:
        open_container(StorageAccount(account_name="account", account_key=SecretStr(KEY)), "s.e", "logs")
    assert "cret" not in str(caught.value)
    assert "S3" not in str(caught.value)


@pytest.mark.parametrize("length", [5, 100_000_000])
def test_an_answer_to_a_range_request_that_is_longer_is_an_error(length: int) -> None:
    """What ignores the range and sends the whole blob is cut off as soon as it sends more than was asked for."""
    headers = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
    with answering(headers + b"12345") as (address, _):
        account = StorageAccount(account_url=f"http://{address}/a", account_key=SecretStr(KEY))
        container = AzureContainer(BlobService(account, "s.e", RetryPolicy(deadline=0.0)), "logs")
        with pytest.raises(StorageUnavailable, match="exceeds 4 bytes"):
            container.read("a", 0, 4, "0x1")


def test_a_listing_has_a_largest_size() -> None:
    """A page that does not end is cut off; so is what an error says, and the error stays what it is."""
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<EnumerationResults>" + b" " * (MOST_BYTES + 65_536)
    missing = b"HTTP/1.1 404 No\r\nx-ms-error-code: BlobNotFound\r\nConnection: close\r\n\r\n<Error/>"
    with answering(endless, missing) as (address, _):
        account = StorageAccount(account_url=f"http://{address}/a", account_key=SecretStr(KEY))
        container = AzureContainer(BlobService(account, "s.e", RetryPolicy(deadline=0.0)), "logs")
        with pytest.raises(StorageUnavailable, match="response from storage exceeds"):
            list(container.list_blobs(""))
        with pytest.raises(BlobGone):
            container.read("a", 0, 4, "0x1")
