"""Parts of the otlp sink that need no server: settings and answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.delivery import BodyAccepted, BodyRefused
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.otlp.answers import reply_of


def partial(rejected: int, message: str = "") -> bytes:
    """Return the answer of a partial success."""
    success = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
    encoded: bytes = ExportLogsServiceResponse(partial_success=success).SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "v1/logs"}, "begins with a slash"),
        ({"path": "/v1/logs?x=1"}, "begins with a slash"),
        ({"path": "/{action}"}, "begins with a slash"),
        ({"resource": {"": "x"}}, "needs a name"),
        ({"rename": {"src_ip": "a"}}, "names of otel are fixed"),
        ({"headers": {"Authorization": "x"}}, "header_files"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], said: str) -> None:
    """A wrong option is refused with what to do."""
    with pytest.raises(ConfigError, match=said):
        configured_sink({"otlp": options}, "otlp")


def test_defaults_are_valid() -> None:
    """The sink can be built without any option, and closed without having been opened."""
    configured_sink({"otlp": {}}, "otlp").sink.close()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"partialSuccess": {}}', partial(0)])
def test_a_success_is_one(body: bytes) -> None:
    """In protobuf, in JSON or empty."""
    reply = reply_of(Answer(200, body))
    assert isinstance(reply, BodyAccepted)
    assert reply.rejected == 0


@pytest.mark.parametrize(
    "body", [partial(3, "too old"), b'{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}']
)
def test_a_partial_success_says_how_many(body: bytes) -> None:
    """The number of rejected records and the receiver's reason are read."""
    assert reply_of(Answer(200, body)) == BodyAccepted(3, "rejected by the receiver: too old")


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"{not json", b'{"partialSuccess": 7}', b'[{"a": 1}]'])
def test_a_success_of_something_else_is_none(body: bytes) -> None:
    """A server that answers everything with 200 has not taken log records."""
    with pytest.raises(Retry, match="is this an OTLP/HTTP receiver") as raised:
        reply_of(Answer(200, body))
    assert raised.value.kind == "no_otlp"


@given(st.binary(max_size=60), st.sampled_from([200, 202, 400, 404, 500, 503]))
def test_any_answer_is_read_or_waited_out(body: bytes, status: int) -> None:
    """Whatever a server answers, there is a reply or a Retry."""
    with suppress(Retry):
        assert reply_of(Answer(status, body)) is not None


@pytest.mark.parametrize(("status", "code"), [(400, ErrorCode.REFUSED), (413, ErrorCode.TOO_LARGE), (500, ErrorCode.REFUSED)])
def test_what_is_not_retryable_is_halved(status: int, code: ErrorCode) -> None:
    """By the specification such a request must not be sent again as it is; its reason is that of the status message."""
    status_message = ExportLogsPartialSuccess(rejected_log_records=13, error_message="bad record").SerializeToString()
    refused = reply_of(Answer(status, status_message))
    assert isinstance(refused, BodyRefused)
    assert refused.code == code
    assert status == 413 or refused.reason == f"the receiver answered {status}: bad record"


@pytest.mark.parametrize(
    ("status", "said", "after"),
    [
        (429, "429", 7.0),
        (503, "503", 7.0),
        (401, "denies the sign-in", 10.0),
        (404, "check hosts and path", 10.0),
        (301, "check", 10.0),
    ],
)
def test_what_is_retryable_or_the_operators_is_waited_out(status: int, said: str, after: float) -> None:
    """Such answers say nothing about the records."""
    with pytest.raises(Retry, match=said) as raised:
        reply_of(Answer(status, b"", 7.0 if status in {429, 503} else None))
    assert (raised.value.after, raised.value.kind) == (after, f"status_{status}")
