"""The subscription and the tenant for requests that name none, from a secret in Key Vault.

The secret is read once when the collector starts, and again from time to time, in a thread of its own: the loop never waits for
a vault. While it cannot be read again, the values known so far remain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings.collector import CollectorVault
from libs.common.settings.references import SecretReader
from services.collector import metrics
from services.collector.requests.defaults import defaults_in

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 60.0
"""Between attempts to read the secret again, whether they fail or Azure keeps refusing its values."""


class CallDefaults(Protocol):
    """Values for placeholders that requests leave open."""

    def open(self) -> None:
        """Read them for the first time."""

    def values(self) -> Mapping[str, str]:
        """Return them, by placeholder."""

    def refused(self) -> None:
        """Note that Azure does not accept who asks: the secret may have changed."""

    def close(self) -> None:
        """Disconnect."""


class NoDefaults:
    """Requests name everything."""

    def open(self) -> None:
        """Do nothing."""

    def values(self) -> Mapping[str, str]:
        """Return none."""
        return MappingProxyType({})

    def refused(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class VaultDefaults:
    """Those in a secret."""

    def __init__(self, place: CollectorVault, reader: SecretReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reference = place.reference
        self._every = place.refresh_hours * 3_600
        self._reader = reader
        self._clock = clock
        self._values: Mapping[str, str] = {}
        self._read_at = self._due_at = 0.0
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Read the secret.

        Raises:
            ConfigError: it cannot be had, or is something else.
            ServerUnreachable: the vault does not answer.
        """
        try:
            self._read()
        except ConfigError as error:
            raise ConfigError(f"collector.key_vault: {error}") from error

    def values(self) -> Mapping[str, str]:
        """Return what is known; if it is old, have it read again meanwhile."""
        is_reading = self._thread is not None and self._thread.is_alive()
        if self._clock() >= self._due_at and not is_reading:
            self._thread = threading.Thread(target=self._read_again, name="key vault", daemon=True)
            self._thread.start()
        return self._values

    def refused(self) -> None:
        """Read the secret again soon, though not every minute."""
        self._due_at = min(self._due_at, self._read_at + RETRY_SECONDS)

    def close(self) -> None:
        """End a read that waits, and disconnect."""
        self._reader.close()
        if self._thread is not None:
            self._thread.join(RETRY_SECONDS)

    def _read(self) -> None:
        text = self._reader.read(self._reference)
        try:
            self._values = defaults_in(text)
        except ConfigError as error:
            raise ConfigError(f"{self._reference}: {error}") from error
        self._read_at = self._clock()
        self._due_at = self._read_at + self._every

    def _read_again(self) -> None:
        try:
            self._read()
            metrics.DEFAULTS.labels("read").inc()
        except BlobtideError as error:
            self._read_at = self._clock()
            self._due_at = self._read_at + RETRY_SECONDS
            metrics.DEFAULTS.labels("failed").inc()
            log.warning("the default subscription and tenant cannot be read again; those known remain", error=str(error))
