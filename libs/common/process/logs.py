"""Structured logging to standard error, with secrets removed from every line, including log lines and warnings of libraries.

In lines for people, control characters are escaped, and values cannot start new lines.

Libraries that log requests (the Azure SDK, urllib3) are kept at WARNING, because their DEBUG lines contain signatures.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

from libs.common.security.redaction import redact, redact_value
from libs.common.security.visible import visible, visible_line
from libs.common.settings.process import LogFormat, LogLevel, LogSettings

_TRACEBACK: Final = "exception"
_TRACED: Final = "_traced"  # marks what is logged at the level TRACE


def configure_logging(settings: LogSettings, *, service: str) -> None:
    """Configure logging of `service` to standard error, as JSON or for a console."""
    # structlog has no level below DEBUG; with this one, `trace` logs at DEBUG.
    level = logging.NOTSET if settings.level is LogLevel.TRACE else getattr(logging, settings.level.upper())
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(_Redacting("%(message)s"))
    logging.basicConfig(handlers=[of_libraries], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    rendering: tuple[Any, ...] = (
        (structlog.processors.JSONRenderer(),)
        if settings.format is LogFormat.JSON
        else (_show_event, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0))
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _name_trace,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # looked up each time, because tests may replace it
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def trace(to: Any, event: str, **fields: object) -> None:
    """Log at the level TRACE to `to`, a structlog logger: data, which no other level shows."""
    if shows_traces(to):
        to.debug(event, **{_TRACED: True}, **fields)


def shows_traces(to: Any) -> bool:
    """Return whether what is logged at the level TRACE is shown, so that data need not be prepared in vain."""
    shown: bool = to.is_enabled_for(logging.NOTSET)
    return shown


class _Redacting(logging.Formatter):
    """Formats records of the standard library's loggers, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return visible(redact(super().format(record)))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    """Log an uncaught exception as a normal line, without secrets."""
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error or kind(), where)
        return
    structlog.get_logger(__name__).critical(
        "this is a bug in blobtide", error_type=kind.__name__, exc_info=(kind, error, where)
    )


def _name_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**event, "level": LogLevel.TRACE.value} if event.pop(_TRACED, None) else event


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact_value(dict(event))
    return redacted


def _show_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    shown = {name: visible_line(value) if isinstance(value, str) else value for name, value in event.items()}
    return shown | {_TRACEBACK: visible(event[_TRACEBACK])} if _TRACEBACK in event else shown
