"""Fixtures for all tests. Servers start when a test first asks for one; see tests/fixtures."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from libs.common.security.redaction import forget

# The JVM's second compiler costs more than it gains in servers that live for minutes.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = (
    "tests.fixtures.alone",
    "tests.fixtures.grouped",
    "tests.fixtures.measured",
    "tests.fixtures.servers",
    "tests.fixtures.kafka",
    "tests.fixtures.azurite",
    "tests.fixtures.stores",
    "tests.fixtures.long",
    "tests.fixtures.canaries",
)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Undo what a command that runs in this process does to its log and to what it knows to be secret."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    forget()
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
