"""The parts of the API, started and stopped together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from libs.common.http.server.server import HttpServer
from services.collector.api.directory import RequestDirectory
from services.collector.api.writer import RequestWriter

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class CollectionApi:
    """The API. `scheme`: http or https."""

    server: HttpServer
    directory: RequestDirectory
    writer: RequestWriter
    scheme: str

    def start(self) -> None:
        """Listen. Raises `ConfigError` if the address cannot be used."""
        self.server.start()
        self.directory.start()
        self.writer.start()
        log.info("the API takes requests", url=f"{self.scheme}://{self.server.address}/collections")

    def check(self) -> None:
        """Raise what has ended one of the threads, if any."""
        for broken in (self.server.broken, self.directory.broken, self.writer.broken):
            if broken is not None:
                raise broken

    def stop(self) -> None:
        """Answer what has been asked, for a moment, and listen no more. Idempotent."""
        self.server.stop(_STOP_SECONDS)
        self.writer.stop()
        self.directory.stop()
