"""Settings of the amqp sink, and the connection parameters that follow from them."""

from __future__ import annotations

import ssl
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from libs.common.errors import ConfigError
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.base import listed
from libs.common.settings.login import LoginSettings
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.message_sink import PayloadSettings
from services.sinks.kinds.amqp.server import Address, ExchangeType, Server, SignIn

KIND: Final = "amqp"
_ENCRYPTED: Final = "amqps"
_PORTS: Final = {"amqp": 5672, _ENCRYPTED: 5671}


class AmqpSettings(PayloadSettings, LoginSettings, TlsSettings):
    """sinks.amqp."""

    urls: tuple[str, ...] = Field(
        default=("amqp://127.0.0.1:5672",),
        min_length=1,
        description="Nodes of one RabbitMQ: amqp(s)://host[:port], a list or comma-separated; amqps uses TLS."
        " The first that responds is used.",
    )
    vhost: str = Field(default="/", min_length=1, max_length=255, description="Virtual host.")
    sign_in: SignIn = Field(
        default=SignIn.PLAIN,
        description="plain: with username and password (default: guest, who is let in from the server's own machine only)."
        " external: with the client certificate.",
    )
    exchange: str = Field(
        default="flowlogs",
        max_length=255,
        description="Durable exchange that messages go to. Empty: the default exchange, where routing_key names a queue.",
    )
    exchange_type: ExchangeType = Field(
        default=ExchangeType.TOPIC, description="Type of the exchange, where sink-setup or declare makes it."
    )
    declare: bool = Field(
        default=False,
        description="Make the exchange at every start if it is missing; the user needs the right to configure it.",
    )
    routing_key: str | None = Field(
        default=None,
        min_length=1,
        description="Routing key of each message. {column} inserts a column's value, made safe for one word. Default:"
        " flowlog.nsg or flowlog.vnet by the row's category (otherwise flowlog.other); of dead letters: dead_letters.",
    )
    mandatory: bool = Field(
        default=True, description="Dead-letter rows whose message no queue takes. If false, the server drops such messages."
    )
    heartbeat_seconds: int = Field(
        default=60,
        ge=5,
        le=600,
        description="Seconds of silence after which a connection counts as broken.",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=50, description="Maximum seconds to wait for a response, or for any confirmation."
    )
    max_message_bytes: int = Field(
        default=134_217_728,
        ge=1,
        le=536_870_912,
        description="Maximum message size; larger rows are dead-lettered. A lower limit is learned when the server names it.",
    )

    @field_validator("urls", mode="before")
    @classmethod
    def _listed(cls, urls: object) -> object:
        return listed(urls)

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            _check_address(url)
        return urls

    @model_validator(mode="after")
    def _signs_in(self) -> Self:
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("password goes with username")
        if self.sign_in is SignIn.EXTERNAL:
            if self.username is not None:
                raise ValueError("sign_in external uses the certificate: remove username and password")
            if self.cert_file is None or any(urlsplit(url).scheme != _ENCRYPTED for url in self.urls):
                raise ValueError("sign_in external requires cert_file and key_file, and amqps:// in urls")
        return self

    def server(self, name: str) -> Server:
        """Read the password and the certificates, and return the connection parameters. Raises `ConfigError`."""
        password = self.read_password()
        login = None if self.username is None or password is None else (self.username, password)
        if login is not None:
            guard_credentials(KIND, [url for url in self.urls if is_plain(url, _ENCRYPTED)], self)
        parts = [urlsplit(url) for url in self.urls]
        return Server(
            addresses=tuple(_address(one) for one in parts),
            vhost=self.vhost,
            sign_in=self.sign_in,
            **({} if login is None else {"login": login}),
            tls=_context(self) if any(one.scheme == _ENCRYPTED for one in parts) else None,
            name=name,
            heartbeat=self.heartbeat_seconds,
            timeout=self.timeout_seconds,
            most_bytes=self.max_message_bytes,
        )


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("give user and password as username and password (or password_file), not in the address")
    if parts.path.strip("/"):
        raise ValueError("give the virtual host as vhost, not in the address")
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("give amqp://host:port, or amqps:// for TLS")
    try:
        _ = parts.port
    except ValueError:  # its text may quote a password from the URL
        raise ValueError("the port is a number, at most 65535") from None


def _address(parts: SplitResult) -> Address:
    return Address(str(parts.hostname), parts.port or _PORTS[parts.scheme], parts.scheme == _ENCRYPTED)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    settings.check_files()
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{KIND}: a file with certificates or a key cannot be read: {error}") from error
    if not settings.verify:
        note(KIND, Lack.VERIFICATION)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
