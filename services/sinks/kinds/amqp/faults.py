"""What goes wrong between us and RabbitMQ: whose fault it is, and what to do.

A server ends a channel or a connection with a code of AMQP 0-9-1 and a text. The library's exceptions nest; where a server ends
a connection that is not open yet, only the text of the exception tells the code.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from pika.exceptions import AuthenticationError, ConnectionClosedByBroker, IncompatibleProtocolError

from libs.common.errors import ConfigError, Retry
from services.sinks.kinds.amqp.server import Address, Server, SignIn

_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 5.0
_LONGEST_TEXT: Final = 300
_CLOSED: Final = re.compile(r"\((\d{3})\) ['\"]?(.*?)['\"]?\)*$", re.DOTALL)
_LIMIT: Final = re.compile(r"\blimit\b")
_LARGEST: Final = re.compile(r"larger than (?:the )?(?:configured )?max(?:imum)? size (\d+)")
_WANTS_CERTIFICATE: Final = re.compile(r"alert.*(certificate|unknown.ca|handshake.failure)", re.IGNORECASE | re.DOTALL)

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 406
_CONTENT_TOO_LARGE: Final = 311
_NOT_ALLOWED: Final = 530
_OF_PROTOCOL: Final = {501, 502, 503, 504, 505, 540}


class TooLarge(Retry):
    """A message was larger than the server takes; `most` is the largest that it takes, as it says."""

    def __init__(self, reason: str, most: int) -> None:
        super().__init__(reason, after=0.0, kind="too_large")
        self.most = most


def closed(where: object, code: int, text: str) -> Retry | ConfigError:
    """Return the exception for a channel or connection that the server has closed with a code and a text."""
    if largest := _LARGEST.search(text):
        return TooLarge(f"{where} takes no message of this size: {_shown(text)}", int(largest[1]))
    if code == _NOT_ALLOWED and _LIMIT.search(text):
        return Retry(f"{where} lets nobody else in now: {_shown(text)}", after=_LONGER_PAUSE, kind="quota")
    hint = _HINTS.get(code)
    if hint is not None:
        return ConfigError(f"{where} {hint} (code {code}, {_shown(text)})")
    if code in _OF_PROTOCOL:
        return ConfigError(f"{where} sees an error in the protocol: is it a RabbitMQ? (code {code}, {_shown(text)})")
    return Retry(f"{where} has closed the connection: code {code}, {_shown(text)}", after=_PAUSE, kind="closed")


_HINTS: Final[Mapping[int, str]] = {
    ACCESS_REFUSED: (
        "does not allow it: the user needs the right to write to the exchange, with every routing key of this sink,"
        " and to configure it for sink-setup and declare"
    ),
    NOT_FOUND: "has no such exchange: run `blobtide sink-setup` with the name of this sink, or set exchange",
    PRECONDITION_FAILED: (
        "has this exchange with other properties: set exchange_type to what it is, or set another exchange, or delete it"
    ),
    _NOT_ALLOWED: "does not let us into the virtual host: set vhost, or give the user rights there",
}


def not_opened(server: Server, address: Address, error: BaseException) -> Retry | ConfigError:
    """Return the exception for a connection that was not established."""
    cause = _cause(error)
    text = str(cause) or type(cause).__name__
    for is_so, explain in _WHY_NOT_OPENED:
        if is_so(cause, text):
            return ConfigError(explain(server, address, _shown(text)))
    if (found := _code_in(cause)) is not None:
        code, said = found
        if code == ACCESS_REFUSED:
            return ConfigError(f"{address} does not let us in: {_sign_in(server)} (code {code}, {_shown(said)})")
        return closed(address, code, said)
    if isinstance(cause, IncompatibleProtocolError):
        return Retry(f"{address} closes every connection: does it speak AMQP 0-9-1 there, and is TLS needed or not?")
    return Retry(f"{address} does not answer: {_shown(text)}")


def lost(address: Address, error: BaseException | None) -> Retry | ConfigError:
    """Return the exception for a connection that was open."""
    if isinstance(error, ConnectionClosedByBroker):
        return closed(address, error.reply_code, error.reply_text)
    return Retry(f"{address} has closed the connection: {_shown(str(error) or type(error).__name__)}")


def _sign_in(server: Server) -> str:
    if server.sign_in is SignIn.EXTERNAL:
        return (
            "no user has the name in our certificate; check cert_file, and how the server derives names (ssl_cert_login_from)"
        )
    return "check username and password; guest is let in from the server's own machine only"


def _is_untrusted(cause: BaseException, _text: str) -> bool:
    return isinstance(cause, ssl.SSLCertVerificationError)


def _is_asked(cause: BaseException, text: str) -> bool:
    return _WANTS_CERTIFICATE.search(text) is not None and not isinstance(cause, ssl.SSLCertVerificationError)


def _is_plain(cause: BaseException, _text: str) -> bool:
    return isinstance(cause, ssl.SSLError) and cause.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}


def _is_without(cause: BaseException, _text: str) -> bool:
    return isinstance(cause, AuthenticationError)


_WHY_NOT_OPENED: Final[tuple[tuple[Callable[[BaseException, str], bool], Callable[[Server, Address, str], str]], ...]] = (
    (_is_untrusted, lambda _, at, text: f"the certificate of {at} is not trusted: set ca_file, or use the name in it ({text})"),
    (_is_asked, lambda _, at, text: f"{at} refuses our certificate, or asks for one: set cert_file and key_file ({text})"),
    (_is_plain, lambda _, at, text: f"{at} does not speak TLS: use amqp://, or the port of amqps ({text})"),
    (
        _is_without,
        lambda server, at, _: (
            f"{at} does not offer to sign in by {server.sign_in.name}: set sign_in, or enable it there"
            " (EXTERNAL: the plugin rabbitmq_auth_mechanism_ssl, and auth_mechanisms)"
        ),
    ),
)


def _cause(error: BaseException) -> BaseException:
    """Return the innermost exception: the library nests them in attributes and arguments."""
    while True:
        several = getattr(error, "exceptions", None) or ()
        candidates = (*several[-1:], getattr(error, "exception", None), *error.args[:1])
        inner = next((one for one in candidates if isinstance(one, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _code_in(cause: BaseException) -> tuple[int, str] | None:
    if isinstance(cause, ConnectionClosedByBroker):
        return cause.reply_code, cause.reply_text
    found = _CLOSED.search(str(cause))
    return None if found is None else (int(found[1]), found[2])


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
