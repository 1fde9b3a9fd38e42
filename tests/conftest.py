"""Fixtures for all tests. Servers start when a test first asks for one; see tests/fixtures."""

from __future__ import annotations

pytest_plugins = (
    "tests.fixtures.servers",
    "tests.fixtures.kafka",
    "tests.fixtures.azurite",
    "tests.fixtures.stores",
    "tests.fixtures.long",
)
