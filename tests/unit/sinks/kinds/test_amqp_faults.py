"""What a server's codes and the library's exceptions mean."""

from __future__ import annotations

import ssl

import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorSocketConnectError,
    AMQPConnectorTransportSetupError,
)
from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from libs.common.errors import ConfigError, Retry
from services.sinks.kinds.amqp.faults import TooLarge, closed, lost, not_opened
from services.sinks.kinds.amqp.server import Address, Server, SignIn

ADDRESS = Address("h", 5672)
SERVER = Server((ADDRESS,))


@pytest.mark.parametrize(
    ("code", "text", "kind", "said"),
    [
        (403, "ACCESS_REFUSED - write access to exchange 'x'", ConfigError, "right to write to the exchange"),
        (404, "NOT_FOUND - no exchange 'x' in vhost '/'", ConfigError, "blobtide sink-setup"),
        (406, "PRECONDITION_FAILED - inequivalent arg 'type'", ConfigError, "set exchange_type"),
        (530, "NOT_ALLOWED - vhost x not found", ConfigError, "set vhost"),
        (530, "NOT_ALLOWED - access to vhost 'x' refused for user 'u': connection limit (1) is reached", Retry, "nobody else"),
        (501, "FRAME_ERROR", ConfigError, "is it a RabbitMQ"),
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", Retry, "shutdown"),
        (541, "INTERNAL_ERROR", Retry, "INTERNAL_ERROR"),
        (599, "anything", Retry, "code 599"),
    ],
)
def test_a_code_says_whose_fault_it_is(code: int, text: str, kind: type[Exception], said: str) -> None:
    """What the operator has to change is a ConfigError that says so; everything else passes by itself."""
    failure = closed("amqp server h:1", code, text)
    assert type(failure) is kind
    assert said in str(failure)
    assert str(failure).startswith("amqp server h:1")


@pytest.mark.parametrize(
    "text",
    [
        "PRECONDITION_FAILED - message size 20000 is larger than configured max size 16384",
        "PRECONDITION_FAILED - message size 20000 is larger than max size 16384",
    ],
)
def test_a_server_says_how_large_a_message_may_be(text: str) -> None:
    """A message that is too large is told apart from other preconditions, with the limit."""
    failure = closed("s", 406, text)
    assert isinstance(failure, TooLarge)
    assert (failure.most, failure.after) == (16_384, 0.0)


def test_a_long_text_is_cut() -> None:
    """A server does not fill our log."""
    assert len(str(closed("s", 541, "x" * 10_000))) < 500


def workflow(error: BaseException, phase: type[Exception] = AMQPConnectorAMQPHandshakeError) -> BaseException:
    """Nest an exception as the library does."""
    nested: BaseException = AMQPConnectionError(AMQPConnectionWorkflowFailed([phase(error)]))
    return nested


_REFUSED = repr(ConnectionClosedByBroker(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."))
_NO_VHOST = repr(ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost nowhere not found"))
_UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
_ALERT = StreamLostError("Stream connection lost: SSLError(1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] ...')")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ProbableAuthenticationError(_REFUSED), ConfigError, "check username and password.*code 403.*Login was refused"),
        (ProbableAccessDeniedError(_NO_VHOST), ConfigError, "set vhost.*nowhere not found"),
        (AuthenticationError("PLAIN"), ConfigError, "does not offer to sign in by PLAIN"),
        (IncompatibleProtocolError(repr(StreamLostError("eof"))), Retry, "does it speak AMQP 0-9-1"),
        (_UNTRUSTED, ConfigError, "not trusted: set ca_file"),
        (_ALERT, ConfigError, "set cert_file and key_file"),
        (ConnectionRefusedError(111, "Connection refused"), Retry, "does not answer: .*refused"),
        (TimeoutError(), Retry, "does not answer: TimeoutError"),
    ],
)
def test_a_connection_that_fails_says_why(error: Exception, kind: type[Exception], said: str) -> None:
    """However deep the library nests the reason, it is found."""
    phases = (AMQPConnectorAMQPHandshakeError, AMQPConnectorSocketConnectError, AMQPConnectorTransportSetupError)
    for nested in (error, *(workflow(error, phase) for phase in phases)):
        with pytest.raises(kind, match=said):
            raise not_opened(SERVER, ADDRESS, nested)


def test_a_certificate_that_signs_in_nobody_is_said_so() -> None:
    """With EXTERNAL there is no password to check."""
    server = Server((ADDRESS,), sign_in=SignIn.EXTERNAL)
    with pytest.raises(ConfigError, match="no user has the name in our certificate"):
        raise not_opened(server, ADDRESS, ProbableAuthenticationError(_REFUSED))


def test_a_lost_connection_has_a_reason() -> None:
    """The server's own, or what the system says."""
    assert "shutdown" in str(lost(ADDRESS, ConnectionClosedByBroker(320, "CONNECTION_FORCED - shutdown")))
    assert "reset" in str(lost(ADDRESS, StreamLostError("reset")))
    assert isinstance(lost(ADDRESS, ConnectionClosedByBroker(403, "ACCESS_REFUSED - permissions have changed")), ConfigError)
