"""Access to storage without a server: credentials, signatures, what failures mean, when requests are sent again."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob import ContainerClient
from pydantic import SecretStr

from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobUnreadable, MessageGone, StorageRefused, StorageUnavailable
from libs.common.azure.storage.blobs import AzureContainer, open_container
from libs.common.azure.storage.credentials import (
    MOST_BYTES,
    Authoriser,
    Endpoint,
    SharedAccessSignature,
    SharedKey,
    StorageLogin,
    StorageRequest,
    TokenIdentity,
    resolve,
    resolve_queues,
)
from libs.common.azure.storage.failures import Refused, WrongBlobType, failure, queue_failure
from libs.common.azure.storage.rest import BlobService
from libs.common.azure.storage.retry import Retrier, RetryPolicy, Transient
from libs.common.errors import ConfigError
from libs.common.settings.storage import StorageAccount
from tests.metric_values import since_now

KEY = "c2VjcmV0LWtleQ=="
CLOUD = Endpoint("https", "account.blob.core.windows.net", None, "")
EMULATOR = Endpoint("http", "127.0.0.1", 10000, "/devstoreaccount1")
SAS = "sv=2024-01-01&sp=rl&sig=ab%2Bc%3D"


@pytest.mark.parametrize(
    ("settings", "endpoint", "authoriser"),
    [
        ({"connection_string": f"AccountName=account;AccountKey={KEY}"}, CLOUD, SharedKey("account", b"secret-key")),
        ({"account_name": "account", "account_key": KEY}, CLOUD, SharedKey("account", b"secret-key")),
        (
            {"account_url": "http://127.0.0.1:10000/devstoreaccount1/", "account_key": KEY},
            EMULATOR,
            SharedKey("devstoreaccount1", b"secret-key"),
        ),
        (
            {"connection_string": f"BlobEndpoint=https://account.blob.core.windows.net;SharedAccessSignature={SAS}"},
            CLOUD,
            SharedAccessSignature((("sv", "2024-01-01"), ("sp", "rl"), ("sig", "ab+c="))),
        ),
    ],
)
def test_every_way_to_sign_in_gives_an_endpoint_and_an_authoriser(
    settings: dict[str, Any], endpoint: Endpoint, authoriser: Authoriser
) -> None:
    """Connection string, key and SAS say where the account is and how requests are signed."""
    assert resolve(StorageAccount(**settings), "sub.dev") == StorageLogin(endpoint, authoriser)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:10000/a", True),
        ("http://[::1]:10000/a", True),
        ("http://localhost:10000/a", True),
        ("http://a.localhost:10000", True),
        ("http://azurite:10000/a", False),
        ("https://a.blob.core.windows.net", False),
        ("http://10.0.0.1:10000/a", False),
    ],
)
def test_an_endpoint_on_this_machine_is_known(url: str, loopback: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """Only what can be nowhere else counts as on this machine; it is reached without a proxy."""
    account = StorageAccount(account_url=url, account_key=SecretStr("a2V5"), allow_plaintext_credentials=True)
    assert resolve(account, "s.e").endpoint.is_loopback is loopback


QUEUES = "https://account.queue.core.windows.net"


@pytest.mark.parametrize(
    ("settings", "service_url", "origin"),
    [
        ({"account_name": "account", "account_key": KEY}, None, QUEUES),
        ({"account_name": "account"}, None, QUEUES),
        (
            {"account_name": "account", "dns_suffix": "core.chinacloudapi.cn"},
            None,
            "https://account.queue.core.chinacloudapi.cn",
        ),
        ({"account_name": "account"}, "https://other.queue.core.windows.net", "https://other.queue.core.windows.net"),
        ({"connection_string": f"AccountName=account;AccountKey={KEY}"}, None, QUEUES),
        (
            {"connection_string": f"AccountName=account;AccountKey={KEY};QueueEndpoint=https://q.example.com"},
            None,
            "https://q.example.com",
        ),
        ({"connection_string": "UseDevelopmentStorage=true"}, None, "http://127.0.0.1:10001"),
    ],
)
def test_the_queue_service_follows_from_the_account(settings: dict[str, Any], service_url: str | None, origin: str) -> None:
    """Its address is that of the account with another label, the emulator's next port, or what the settings say."""
    account = StorageAccount(**settings)
    found = resolve_queues(account, "s.e", service_url)
    assert found.endpoint.origin == origin
    assert type(found.authoriser) is type(resolve(account, "s.e").authoriser)


@pytest.mark.parametrize(
    ("settings", "service_url", "said"),
    [
        ({"account_url": "https://logs.example.com", "sas_token": SAS}, None, "set service_url"),
        ({"account_name": "account", "account_key": KEY}, "queue.example.com", "service_url is not a URL"),
        ({"account_name": "account", "account_key": KEY}, "http://q.example.com", "allow_plaintext_credentials"),
        ({"account_name": "account"}, "http://q.example.com", "requires https"),
    ],
)
def test_a_queue_service_that_cannot_work_is_refused(settings: dict[str, Any], service_url: str | None, said: str) -> None:
    """An address that nobody knows, or over which a secret would travel in the open, is named with the environment."""
    with pytest.raises(ConfigError, match=said) as caught:
        resolve_queues(StorageAccount(**settings), "s.e", service_url)
    assert "s.e" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"account_name": "account"}, "account"),
        ({"account_url": "https://logs.example.com", "sas_token": SAS}, None),
        ({"account_url": "https://account.privatelink.blob.core.windows.net", "sas_token": SAS}, "account"),
        ({"connection_string": "UseDevelopmentStorage=true"}, "devstoreaccount1"),
    ],
)
def test_the_name_of_the_account_is_known_where_something_tells_it(settings: dict[str, Any], name: str | None) -> None:
    """By it events of other accounts are told apart; a domain of one's own says nothing."""
    assert resolve(StorageAccount(**settings), "s.e").account == name


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (404, "QueueNotFound", StorageRefused, "queue events does not exist"),
        (404, "MessageNotFound", MessageGone, "events"),
        (400, "PopReceiptMismatch", MessageGone, "events"),
        (403, "AuthorizationPermissionMismatch", Refused, "Storage Queue Data Message Processor"),
        (403, "AuthenticationFailed", Refused, "clock"),
        (503, "ServerBusy", Transient, "503"),
    ],
)
def test_every_answer_of_a_queue_has_one_meaning(status: int, code: str, kind: type[Exception], said: str) -> None:
    """It names the queue where it is about the queue, and the role that is missing."""
    error = queue_failure("sub.dev", "/events/messages", status, {"x-ms-error-code": code})
    assert type(error) is kind
    assert said in str(error)
    assert "sub.dev" in str(error)


def test_the_emulators_short_connection_string_and_an_identity_are_understood() -> None:
    """UseDevelopmentStorage means the local emulator; without any secret the process's Azure identity signs in."""
    assert resolve(StorageAccount(connection_string=SecretStr("UseDevelopmentStorage=true")), "s.e").endpoint == EMULATOR
    assert isinstance(resolve(StorageAccount(account_name="account"), "s.e").authoriser, TokenIdentity)


class _Credential:
    """An Azure identity whose tokens last for an hour, or that fails."""

    def __init__(self) -> None:
        self.now = 0.0
        self.error: Exception | None = None
        self.asked = 0

    def get_token(self, _: str) -> AccessToken:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return AccessToken(f"token{self.asked}", int(self.now) + 3600)


def _bearer(identity: TokenIdentity) -> str:
    request = StorageRequest("GET", "/")
    identity.authorise(request)
    return request.headers["Authorization"]


@pytest.mark.parametrize("error", [OSError("no token file"), ValueError("no JSON"), ClientAuthenticationError("no")])
def test_an_identity_that_fails_is_storage_that_is_away(error: Exception) -> None:
    """Whatever the identity library raises, for example while its token file is replaced, passes and is asked for again."""
    credential = _Credential()
    identity = TokenIdentity(credential, lambda: credential.now)
    credential.error = error
    with pytest.raises(StorageUnavailable, match=f"no token from Azure identity .*: {error}"):
        _bearer(identity)
    credential.error = None
    assert _bearer(identity) == "Bearer token2"


def test_a_token_is_used_until_it_expires_while_it_cannot_be_renewed() -> None:
    """A token is renewed before it expires; if that fails it serves on, and the next try is not that of the next request."""
    credential = _Credential()
    identity = TokenIdentity(credential, lambda: credential.now)
    assert _bearer(identity) == "Bearer token1"
    credential.now, credential.error = 3400.0, OSError("no token file")
    assert [_bearer(identity) for _ in range(3)] == ["Bearer token1"] * 3
    assert credential.asked == 2
    credential.now = 3600.0
    with pytest.raises(StorageUnavailable):
        _bearer(identity)
    credential.error = None
    assert _bearer(identity) == "Bearer token4"
    assert [_bearer(identity) for _ in range(3)] == ["Bearer token4"] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"connection_string": "hunter2"}, "copy all of it"),
        ({"connection_string": ""}, "empty"),
        ({"connection_string": "AccountName=account"}, "neither AccountKey nor"),
        ({"account_name": "account", "account_key": "hunter2!"}, "not an account key"),
        ({"account_name": "account", "sas_token": "sv=hunter2"}, "no signature"),
        ({"account_name": "account", "sas_token_file": "/no/such/file"}, "cannot read sas_token_file"),
        ({"account_url": "ftp://x", "account_key": KEY}, "not a URL such as"),
        ({"account_url": "https://account.blob.core.windows.net/?sig=hunter2", "account_key": KEY}, "as sas_token"),
        ({"account_url": "http://127.0.0.1:1/a"}, "requires https"),
    ],
)
def test_settings_that_cannot_work_are_one_clear_line(settings: dict[str, Any], says: str) -> None:
    """The error names the environment and what to do, and shows no secret."""
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(StorageAccount(**settings), "sub.dev")
    assert "sub.dev" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "query", "headers"),
    [
        ("/devstoreaccount1/c/a%20b/%C3%BC", {}, {"x-ms-range": "bytes=0-9", "If-Match": '"0x1"'}),
        ("/c", {"restype": "container", "comp": "list", "prefix": "ü x/", "marker": "a+b"}, {}),
    ],
)
def test_requests_are_signed_as_the_official_client_signs_them(
    path: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """Our Shared Key signature equals the SDK's."""
    headers = {"x-ms-date": "Fri, 01 May 2026 12:00:00 GMT", "x-ms-version": "2023-11-03", **headers}
    ours = StorageRequest("GET", path, query, dict(headers))
    SharedKey("devstoreaccount1", b"secret-key").authorise(ours)
    theirs = HttpRequest("GET", f"http://127.0.0.1:10000{path}", headers=dict(headers))
    theirs.format_parameters({name: _quoted(value) for name, value in query.items()})
    policy = ContainerClient("http://127.0.0.1:10000/devstoreaccount1", "c", credential=KEY).credential
    policy.on_request(SimpleNamespace(http_request=theirs, context=SimpleNamespace(transport=None)))
    assert ours.headers["Authorization"] == theirs.headers["Authorization"]


def _quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")


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

    retrier = Retrier(RetryPolicy(deadline=1e9), wait)
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
        Retrier(RetryPolicy(deadline=30), wait, clock=lambda: now[0]).call(_failing(10_000))
    assert 20 < now[0] <= 30
    with pytest.raises(StorageUnavailable) as caught:
        Retrier(RetryPolicy(deadline=30), wait).call(_failing(1, after=600.0))
    assert caught.value.after == 600
    with pytest.raises(StorageUnavailable, match="closing"):
        Retrier(RetryPolicy(), lambda _: True).call(_failing(1))


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
