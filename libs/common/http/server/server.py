"""A server in a thread of its own, with one connection for each client up to a limit. TLS if it has a certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from libs.common.errors import ConfigError
from libs.common.http.server.connection import BodyRoom, HttpConnection, HttpLimits, Peer
from libs.common.http.server.messages import HttpSite

log = structlog.get_logger(__name__)

_HANDSHAKE_SECONDS: Final = 5.0
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """Where a server listens. `setting` is the group of settings that says so, for errors."""

    host: str
    port: int
    setting: str
    tls: ssl.SSLContext | None = None


class HttpServer:
    """Serves one site. `broken` is why the thread has ended by itself, if it has."""

    def __init__(self, place: HttpPlace, site: HttpSite, limits: HttpLimits) -> None:
        self._place = place
        self._site = site
        self._limits = limits
        self._room = BodyRoom(limits.bytes_at_once)
        self._open: dict[asyncio.Task[None], HttpConnection] = {}
        self._port = 0
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._ready = threading.Event()
        self._grace = 0.0  # seconds
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self.broken: Exception | None = None

    @property
    def address(self) -> str:
        """Host and port as in a URL; the port is 0 before `start` if a free one is to be picked."""
        host, port = self._place.host, self.port or self._place.port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""
        return self._port

    def start(self) -> None:
        """Listen, and start the thread. Raises `ConfigError` if the address cannot be used."""
        host, port, setting = self._place.host, self._place.port, self._place.setting
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._listener = socket.create_server(address[:2], family=family, backlog=self._limits.connections)
            self._port = int(self._listener.getsockname()[1])
        except OSError as error:
            said = f"cannot listen on {host}:{port}: {error.strerror or error}"
            raise ConfigError(f"{said}; give {setting}.host and {setting}.port an address that is free") from error
        self._thread.start()
        self._ready.wait()

    def stop(self, seconds: float) -> None:
        """Accept nothing more, let open requests end for some seconds, and end the thread. Idempotent."""
        loop, ending = self._loop, self._ending
        if loop is not None and ending is not None:
            self._grace = seconds
            with suppress(RuntimeError):  # the thread has ended by itself
                loop.call_soon_threadsafe(ending.set)
            self._thread.join(seconds + 1.0)
            self._loop = None

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the top of a thread; raised again in the main thread
            self.broken = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._ending, self._loop = asyncio.Event(), asyncio.get_running_loop()
        handshake = None if self._place.tls is None else _HANDSHAKE_SECONDS
        server = await asyncio.start_server(
            self._accepted,
            sock=self._listener,
            ssl=self._place.tls,
            ssl_handshake_timeout=handshake,
            ssl_shutdown_timeout=None if handshake is None else 1.0,
            limit=self._limits.head_bytes,
        )
        self._ready.set()
        try:
            await self._ending.wait()
        finally:
            server.close()
            await self._drain()

    async def _drain(self) -> None:
        """Let requests end that have begun."""
        for task, connection in self._open.items():
            connection.is_ending = True
            if connection.is_idle:
                task.cancel()
        if self._open:
            _, late = await asyncio.wait(list(self._open), timeout=self._grace)
            for task in late:
                task.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio makes one for each connection
        try:
            if len(self._open) >= self._limits.connections:
                writer.write(_BUSY)
            else:
                self._open[task] = connection = HttpConnection(Peer(reader, writer), self._site, self._limits, self._room)
                await connection.run()
        except asyncio.CancelledError:
            pass  # told to stop: what is open is closed
        finally:
            await self._hang_up(writer)
            self._open.pop(task, None)

    async def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection. What a client does not take within its time is thrown away: it may never take it."""
        writer.close()
        try:
            async with asyncio.timeout(self._limits.seconds):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server needs for TLS. Raises `ConfigError` if certificate and key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; an encrypted key is a ValueError
        reason = error.strerror or getattr(error, "reason", "") if isinstance(error, OSError) else "the key has a password"
        raise ConfigError(f"cannot use certificate {certificate} with key {key}: {reason or 'they are unusable'}") from error
    return context
