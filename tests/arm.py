"""Clients of the Azure Resource Manager on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from libs.common.azure.arm.client import ArmClient
from libs.common.azure.arm.pages import MOST_PAGES, ArmLists
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.retry import RetryPolicy
from libs.demo.arm.server import ArmWorld, serving_arm

QUICK = RetryPolicy(deadline=5.0, first_wait=0.01, longest_wait=0.05)


class WorldTokens:
    """Tokens of a world, without signing in."""

    def __init__(self, world: ArmWorld) -> None:
        self._world = world
        self._current = world.tokens[-1]
        self.renewals: list[str | None] = []

    def token(self) -> str:
        """Return the token that was valid when it was last asked for."""
        return self._current

    def renewed(self, refused: str, claims: str | None = None) -> str | None:
        """Return the token that is valid now."""
        self.renewals.append(claims)
        self._current = self._world.tokens[-1]
        return None if self._current == refused else self._current


@contextmanager
def arm_of(
    world: ArmWorld, tokens: WorldTokens | None = None, policy: RetryPolicy = QUICK, most_pages: int = MOST_PAGES
) -> Iterator[ArmLists]:
    """Serve a world and yield what reads its lists."""
    with serving_arm(world) as url:
        client = client_for(url, tokens or WorldTokens(world), policy)
        try:
            yield ArmLists(client, most_pages)
        finally:
            client.close()


def client_for(
    url: str, tokens: WorldTokens, policy: RetryPolicy = QUICK, clock: Callable[[], float] = time.monotonic
) -> ArmClient:
    """Return a client of the Azure Resource Manager at `url`."""
    parts = urlsplit(url)
    return ArmClient(Endpoint(parts.scheme, parts.hostname or "", parts.port, ""), tokens, policy, clock)
