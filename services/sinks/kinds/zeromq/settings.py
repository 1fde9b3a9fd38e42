"""Settings of the ``zeromq`` sink."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from libs.common.settings.base import listed
from services.sinks.frame.message_sink import MessageSettings

_TCP = re.compile(r"tcp://(?P<host>\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_IPC = re.compile(r"ipc://[^\x00-\x20@\x7f]{1,100}")
_LAST_PORT: Final = 65_535


class Mode(StrEnum):
    """The kind of socket, and thereby what is known of a message that was sent."""

    DEALER = "dealer"
    PUSH = "push"
    PUB = "pub"


class ZeroMqSettings(MessageSettings):
    """sinks.zeromq."""

    mode: Mode = Field(
        default=Mode.DEALER,
        description="dealer: the peer (ROUTER) acknowledges. push: each message to one PULL peer. pub: to all subscribers.",
    )
    endpoints: tuple[str, ...] = Field(
        default=("tcp://127.0.0.1:5555",),
        min_length=1,
        description="Addresses as tcp://host:port or ipc:///path; a list or comma-separated.",
    )
    bind: bool = Field(default=False, description="Listen at the endpoints, instead of connecting to them.")
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=50, description="Seconds without progress after which a write is repeated."
    )
    high_water_mark: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of messages queued for each peer; dealer: also of unacknowledged messages.",
    )
    wait_for_slow: bool = Field(
        default=False,
        description="pub: wait for the slowest subscriber; otherwise, it loses what it cannot take in time.",
    )
    linger_seconds: float = Field(
        default=5.0, ge=0, le=8, description="Maximum seconds to hand over queued messages when the sink stops."
    )
    heartbeat_seconds: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Interval of ZeroMQ heartbeats. A peer silent for three of them is considered gone. 0: no heartbeats.",
    )
    max_message_bytes: int = Field(
        default=0,
        ge=0,
        le=2_147_483_647,
        description="Maximum size of a row; larger ones are dead-lettered. Set it to the peers' ZMQ_MAXMSGSIZE. 0: no limit.",
    )
    curve_key_file: Path | None = Field(
        default=None, description="CURVE: certificate file with the sink's own public and secret key."
    )
    curve_server_key_file: Path | None = Field(
        default=None, description="CURVE, without bind: certificate file with the peer's public key."
    )
    curve_clients_directory: Path | None = Field(
        default=None, description="CURVE, with bind: directory with the certificates (*.key) of the peers that may connect."
    )
    curve_any_client: bool = Field(
        default=False, description="CURVE, with bind: let in everybody who knows the sink's public key."
    )

    @field_validator("endpoints", mode="before")
    @classmethod
    def _listed(cls, endpoints: object) -> object:
        return listed(endpoints)

    @field_validator("endpoints")
    @classmethod
    def _addresses(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in endpoints:
            tcp = _TCP.fullmatch(endpoint)
            if tcp is None and not _IPC.fullmatch(endpoint):
                raise ValueError("give addresses as tcp://host:port or ipc:///path")
            if tcp is not None and not 0 < int(tcp["port"]) <= _LAST_PORT:
                raise ValueError("the port is a number from 1 to 65535")
        return endpoints

    @field_validator("key")
    @classmethod
    def _no_key(cls, key: str | None) -> str | None:
        if key is not None:
            raise ValueError("ZeroMQ messages have no key; put the columns into the topic")
        return key

    @model_validator(mode="after")
    def _any_host_is_to_listen_at(self) -> Self:
        if not self.bind and any(endpoint.startswith("tcp://*") for endpoint in self.endpoints):
            raise ValueError("* is an address to listen at: name a host, or set bind: true")
        return self

    @model_validator(mode="after")
    def _only_publishers_wait(self) -> Self:
        if self.wait_for_slow and self.mode is not Mode.PUB:
            raise ValueError("wait_for_slow is for mode pub; the other modes always wait")
        return self

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        of_server = self.curve_clients_directory is not None or self.curve_any_client
        of_client = self.curve_server_key_file is not None
        if self.curve_key_file is None and (of_server or of_client):
            raise ValueError("the other CURVE settings need curve_key_file")
        if self.bind and of_client:
            raise ValueError("with bind the sink is the CURVE server: it needs no curve_server_key_file")
        if not self.bind and of_server:
            raise ValueError("curve_clients_directory and curve_any_client are for bind: true")
        if self.curve_key_file is not None:
            self._has_other_side(of_server=of_server, of_client=of_client)
        return self

    def _has_other_side(self, *, of_server: bool, of_client: bool) -> None:
        if not self.bind and not of_client:
            raise ValueError("curve_key_file needs curve_server_key_file, the key of the peer")
        if self.bind and not of_server:
            raise ValueError("with bind, curve_key_file needs curve_clients_directory, or curve_any_client: true")
        if self.curve_any_client and self.curve_clients_directory is not None:
            raise ValueError("give curve_clients_directory or curve_any_client, not both")
