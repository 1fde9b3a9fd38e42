"""The containers that may be read: only configured ones, whatever a message says."""

from __future__ import annotations

from collections.abc import Callable

from libs.common.azure.storage.api import Container
from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import Stream
from libs.common.settings.storage import Source, StorageAccount, Subscriptions, account_alias

OpenContainer = Callable[[StorageAccount, str, str], Container]


class Sources:
    """Containers by account alias and name, opened once and shared by all threads. No requests are sent here."""

    def __init__(self, subscriptions: Subscriptions, open_container: OpenContainer) -> None:
        self._containers: dict[tuple[str, str], Container] = {}
        self._sources: dict[tuple[str, str], list[Source]] = {}
        for subscription, environments in subscriptions.items():
            for environment, settings in environments.environments.items():
                alias = account_alias(subscription, environment)
                for source in settings.sources if settings.enabled else ():
                    place = (alias, source.container)
                    self._sources.setdefault(place, []).append(source)
                    if place not in self._containers:
                        self._containers[place] = open_container(settings.storage, *place)
        if not self._containers:
            raise ConfigError("nothing to read: configure `subscriptions` with an enabled environment")

    @property
    def accounts(self) -> frozenset[str]:
        """The aliases of all accounts."""
        return frozenset(account for account, _ in self._containers)

    def container(self, blob: BlobId) -> Container | None:
        """Return the container of `blob`, or None if it is not configured."""
        return self._containers.get((blob.account, blob.container))

    def stream(self, blob: BlobId) -> Stream:
        """Return the stream of the source with the longest prefix that matches `blob`."""
        sources = self._sources[blob.account, blob.container]
        fitting = [source for source in sources if blob.name.startswith(source.prefix)]
        return max(fitting or sources, key=lambda source: len(source.prefix)).stream

    def close(self) -> None:
        """Close all connections."""
        for container in self._containers.values():
            container.close()
