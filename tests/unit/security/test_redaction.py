"""What leaves a process holds no credentials: known ones wherever they stand, others by what they look like."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.security.redaction import excerpt, forget, redact, redact_value, remember

LOOKS_SECRET = [
    (
        "GET https://a.blob.core.windows.net/c?sv=1&sig=hunter2%2B%3D&se=2",
        "GET https://a.blob.core.windows.net/c?sv=1&sig=***&se=2",
    ),
    ("sv%3D1%26sig%3Dhunter2%252B%26se%3D2", "sv%3D1%26sig%3D***%26se%3D2"),
    ("AccountName=a;AccountKey=hunter2==;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
    ("SharedAccessKeyName=n;SharedAccessKey=hunter2=", "SharedAccessKeyName=n;SharedAccessKey=***"),
    ("password=hunter2 is wrong", "password=*** is wrong"),
    ("sasl.password = hunter2", "sasl.password = ***"),
    ('{"password": "hun\\"ter2 hunter2", "a": 1}', '{"password": "***", "a": 1}'),
    ("{'client_secret': 'hunter2', 'a': 1}", "{'client_secret': '***', 'a': 1}"),
    ('{\\"api_key\\": \\"hunter2\\", \\"a\\": 1}', '{\\"api_key\\": \\"***\\", \\"a\\": 1}'),
    ('{"token": "hunter2', '{"token": "***'),
    ("Bearer hunter2.x-y", "Bearer ***"),
    ("header Basic aHVudGVyMg==, refused", "header Basic ***, refused"),
    ("ApiKey hunter2==", "ApiKey ***"),
    ("SharedKey account:hunter2=", "SharedKey ***"),
    ("{'Authorization': 'SharedKey account:hunter2=='}", "{'Authorization': '***'}"),
    ("x-api-key: hunter2", "x-api-key: ***"),
    ("https://user:hunter2@host/x", "https://***@host/x"),
    ("redis://:hunter2@host", "redis://***@host"),
    ("https://user:p@hunter2@host/x", "https://***@host/x"),
    ("https://user:p/hunter2@host/x", "https://***@host/x"),
    ("https://hunter2@host/x", "https://***@host/x"),
    ("eyJhbGciOi.eyJzdWIi.hunter2 expired", "*** expired"),
    ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nx", "***\nx"),
]
HARMLESS = [
    "Basic authentication is required",
    "https://host:8080/container/a@b.json",
    "sinks.redis.password: unknown setting; did you mean password_file?",
    "sas_token has no signature (sig=...); copy the whole token",
    "the account key, SAS or token is wrong or has expired",
    "check kafka.sasl_mechanism, sasl_username and sasl_password",
    "key=Ingestion.Blobs unexpected token: }",
    "resourceId=/SUBSCRIPTIONS/A/PROVIDERS/B/y=2026/m=05/d=01/h=12/m=00/macAddress=000D3A/PT1H.json",
]


@pytest.mark.parametrize(("text", "left"), LOOKS_SECRET)
def test_what_looks_like_a_credential_is_taken_out(text: str, left: str) -> None:
    """Signatures, keys, passwords, tokens and headers of every kind, and nothing around them; done twice it is the same."""
    assert redact(text) == left
    assert redact(left) == left


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_credential_stays(text: str) -> None:
    """Sentences about credentials, names of settings and of blobs can be read."""
    assert redact(text) == text


SECRETS = ["hunter2", "p/a+ss w=o&rd", 'quo"te\\back', "schön€geheim", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1==", "tiny"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "write",
    [
        str,
        repr,
        json.dumps,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe="").lower() if secret.islower() else quote(secret, safe=""),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    ],
)
def test_a_known_secret_is_found_as_it_may_be_written(secret: str, write: object) -> None:
    """A configured secret is taken out where it stands without any sign of what it is: plain, escaped, or encoded."""
    assert callable(write)
    written = write(secret).strip("'\"")
    before = f"the server said {written} and closed"
    remember(secret)
    assert redact(before) == "the server said *** and closed"


@pytest.mark.parametrize("user", ["", "u", "us", "use"])
def test_a_known_secret_is_found_within_base64(user: str) -> None:
    """What a header for Basic holds is the secret behind a user of any length; its inner part is not left."""
    secret = "correct-horse-battery"  # noqa: S105
    remember(secret)
    inside = base64.b64encode(f"{user}:{secret}".encode()).decode()
    left = redact(f"it got {inside}")
    assert inside[6:-6] not in left
    assert "***" in left


def test_a_short_secret_does_not_make_text_unreadable() -> None:
    """One of a few letters is taken out where it stands by itself, and one of fewer than four not at all."""
    for secret in ("red", "redis", ""):
        remember(secret)
    assert redact("redis says: rediscovered red redis!") == "*** says: rediscovered red ***!"


def test_the_longest_secret_goes_first() -> None:
    """Of secrets that begin alike none leaves its end."""
    for secret in ("hunter22", "hunter22-and-more"):
        remember(secret)
    assert redact("x hunter22-and-more y hunter22") == "x *** y ***"


def test_structured_values_are_searched_whatever_they_are_made_of() -> None:
    """Nested data, bytes, exceptions and objects; a value under a secret's name goes whatever it is."""
    error = ValueError("sig=hunter2")
    data = {"a": [{"password": 7}, b"AccountKey=hunter2", error], "b": {"AUTHORIZATION": ["hunter2"], "c": (None, True, 1.5)}}
    assert redact_value(data) == {
        "a": [{"password": "***"}, "b'AccountKey=***'", "ValueError('sig=***')"],
        "b": {"AUTHORIZATION": "***", "c": [None, True, 1.5]},
    }
    endless: list[object] = []
    endless.append(endless)
    assert json.dumps(redact_value(endless))


def test_an_excerpt_is_cut_behind_the_search() -> None:
    """A secret at the edge of what is shown is not cut so that nobody knows it any more."""
    remember("hunter2-and-more")
    assert excerpt(b"x" * 290 + b" hunter2-and-more") == "x" * 290 + " ***"
    assert excerpt("two\n lines") == "two lines"


def test_the_reason_of_a_dead_letter_leaves_without_secrets() -> None:
    """Whatever a destination is quoted with, the header in `Errors` holds no credential; the bytes stay as they are."""
    letter = DeadLetter("sink.x", ErrorCode.REFUSED, "refused https://u:hunter2@h/ " + "x" * 600, b"sig=original")
    headers = dict(letter.headers())
    assert headers["reason"].startswith(b"refused https://***@h/ x")
    assert len(headers["reason"]) == 500
    assert letter.data == b"sig=original"


_LIBRARY = r"""
import logging, sys, warnings
from libs.common.process.logs import configure_logging
from libs.common.security.redaction import remember
from libs.common.settings.process import LogSettings
import structlog
remember("correct-horse")
configure_logging(LogSettings(format=sys.argv[1]), service="x")
try:
    raise ValueError("Authorization: Bearer hunter2.hunter2")
except ValueError:
    logging.getLogger("urllib3.connectionpool").exception("%s failed with correct-horse", "GET /?sig=hunter2")
    copied = {"x-ms-copy-source": "https://a/?sig=hunter2"}
    structlog.get_logger().error("failed\x1b[2J\nforged", headers=copied, body=b"correct-horse", n=1)
warnings.warn("https://u:hunter2@proxy is odd")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_lines_of_libraries_hold_no_credentials_either(form: str) -> None:
    """What urllib3 or the Azure SDK log or warn of, with their tracebacks, and what we log in a structured way."""
    done = subprocess.run((sys.executable, "-c", _LIBRARY, form), capture_output=True, text=True, check=True)
    for secret in ("hunter2", "correct-horse"):
        assert secret not in done.stdout + done.stderr
    assert "GET /?sig=*** failed with ***" in done.stderr
    assert "Traceback" in done.stderr
    for evil in ("\x1b", "\nforged"):
        assert evil not in done.stderr
    assert "https://***@proxy is odd" in done.stderr


def test_logging_does_not_change_what_is_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers stay numbers in JSON lines."""
    logging.getLogger("x").warning("n")
    assert redact_value({"n": 1, "share": 0.5, "none": None}) == {"n": 1, "share": 0.5, "none": None}


@given(st.text(), st.text(min_size=8).filter(str.strip), st.text())
def test_nothing_of_a_known_secret_is_left_in_any_text(before: str, secret: str, after: str) -> None:
    """Any secret of eight characters or more is gone from any text, and no text makes redaction fail."""
    try:
        remember(secret)
        known = secret.strip()
        if len(known) >= 8:
            assert known not in redact(before + known + after).replace("***", "\0") or known in before + after
    finally:
        forget()
