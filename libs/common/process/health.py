"""The health of a process, and the endpoints for probes: ``/metrics``, ``/livez`` and ``/readyz``."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from libs.common.security.redaction import redact
from libs.common.settings.process import HttpSettings

log = structlog.get_logger(__name__)

STALE_AFTER_SECONDS = 60.0
IDLE_SECONDS = 10.0  # probes send their request at once; an idle connection would occupy a thread

NO_PARTITIONS = "waiting for partitions"
DRAINING = "draining: told to stop"


class Need(StrEnum):
    """Something a process cannot work without."""

    PARTITIONS = "partitions"
    TOPICS = "topics"
    STORAGE = "storage"
    DESTINATION = "destination"
    OTHERS = "others"  # external dependencies of the work itself, such as a lookup


class Health:
    """Liveness (a recent heartbeat of the loop) and readiness (everything needed is there, and not draining), for probes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_beat = clock()
        # By missing need. Replaced as a whole, because probe threads read it.
        self._reasons: Mapping[Need, str] = {Need.PARTITIONS: "starting"}
        self._notes: Mapping[str, str] = {}
        self._is_draining = False

    def beat(self) -> None:
        """Record a heartbeat of the main loop; call it at least every few seconds, even while waiting."""
        self._last_beat = self._clock()

    def ready(self, need: Need = Need.PARTITIONS) -> None:
        """Record that `need` is available."""
        self._reasons = {other: reason for other, reason in self._reasons.items() if other is not need}

    def not_ready(self, reason: str, need: Need = Need.PARTITIONS) -> None:
        """Record that `need` is missing, and why."""
        self._reasons = {**self._reasons, need: reason}

    def tell(self, trouble: str, need: Need) -> None:
        """Record that `need` is missing because of `trouble`, or available if that is empty."""
        if trouble:
            self.not_ready(trouble, need)
        else:
            self.ready(need)

    def note(self, subject: str, text: str) -> None:
        """Set a note that probes show although it does not affect readiness; an empty text removes it."""
        others = {other: said for other, said in self._notes.items() if other != subject}
        self._notes = {**others, subject: text} if text else others

    def notes(self) -> list[str]:
        """Return all notes."""
        return list(self._notes.values())

    def drain(self) -> None:
        """Record that the process was told to stop: it is not ready any more, whatever is available."""
        self._is_draining = True

    def alive(self) -> bool:
        """Return whether the last heartbeat is recent enough."""
        return self._clock() - self._last_beat < STALE_AFTER_SECONDS

    def why_not_ready(self) -> str | None:
        """Return None when ready."""
        if self._is_draining:
            return DRAINING
        return "; ".join(self._reasons.values()) or None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, _request: object, client_address: object) -> None:
        """Log our own errors; ignore probes that disconnect before the response."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("cannot answer a probe", client=str(client_address), exc_info=error)


class HealthServer:
    """Serve ``/metrics``, ``/livez``, ``/readyz`` from a daemon thread."""

    def __init__(self, settings: HttpSettings, health: Health, registry: CollectorRegistry = REGISTRY) -> None:
        self._settings = settings
        self._health = health
        self._registry = registry
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""
        return int(self._server.server_address[1]) if self._server else 0

    def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        health, registry = self._health, self._registry

        class ProbeHandler(BaseHTTPRequestHandler):
            timeout = IDLE_SECONDS

            def do_GET(self) -> None:
                self._answer(*_respond(self.path, health, registry))

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Do not log probes."""

        self._server = _Server((self._settings.host, self._settings.port), ProbeHandler)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Stop listening; idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _respond(path: str, health: Health, registry: CollectorRegistry) -> tuple[int, str, bytes]:
    match path.split("?", maxsplit=1)[0]:
        case "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        case "/livez":
            alive = health.alive()
            return (200 if alive else 503), "application/json", json.dumps({"alive": alive}).encode()
        case "/readyz":
            reason = health.why_not_ready()
            answer: dict[str, object] = {"ready": reason is None, "reason": redact(reason) if reason else None}
            if notes := health.notes():
                answer["notes"] = [redact(note) for note in notes]
            return (200 if reason is None else 503), "application/json", json.dumps(answer).encode()
        case _:
            return 404, "text/plain", b"see /metrics, /livez, /readyz\n"
