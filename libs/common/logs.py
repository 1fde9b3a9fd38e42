"""Structured logging to standard error, with secrets taken out of every line.

Libraries that print requests (the Azure SDK, urllib3) are kept at WARNING: their DEBUG lines hold signatures.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from libs.common.settings.services import LogFormat, LogSettings

_SECRET = re.compile(
    r"(?i)\b(sig|AccountKey|SharedAccessKey|SharedAccessSignature|password|client_secret|api_key)=[^&;\s\"']+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def redact(text: str) -> str:
    """Return `text` with everything that looks like a credential replaced by asterisks."""
    return _SECRET.sub(lambda m: f"{m.group(1)}=***" if m.group(1) else "***", text)


def configure_logging(settings: LogSettings, *, service: str) -> None:
    """Send log lines of `service` to standard error, as JSON or for a console."""
    level = getattr(logging, settings.level.upper())
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s", force=True)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is then: a test may have replaced it
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """Log what nobody caught: as a line like any other, without secrets."""
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error or kind(), traceback)
        return
    structlog.get_logger(__name__).critical("a defect of blobtide", error_type=kind.__name__, exc_info=(kind, error, traceback))


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
    return event
