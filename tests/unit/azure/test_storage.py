"""Access to storage without a server: credentials and signatures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob import ContainerClient
from pydantic import SecretStr

from libs.common.azure.endpoint import Endpoint
from libs.common.azure.retry import Transient
from libs.common.azure.storage.api import MessageGone, StorageRefused, StorageUnavailable
from libs.common.azure.storage.credentials import (
    Authoriser,
    SharedAccessSignature,
    SharedKey,
    StorageLogin,
    StorageRequest,
    TokenIdentity,
    resolve,
    resolve_queues,
)
from libs.common.azure.storage.failures import Refused, queue_failure
from libs.common.errors import ConfigError
from libs.common.settings.storage import StorageAccount

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
