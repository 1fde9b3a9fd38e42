"""Ends at crash points within the test's own process."""

from __future__ import annotations

import pytest


def die_at(
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    times: int = 1,
    modules: tuple[str, ...] = ("services.sinks.local_state.shard_store",),
) -> None:
    """Let the sink end at a crash point of these modules as if killed, but for its locks."""
    left = [times]

    def reach(name: str) -> None:
        left[0] -= name == point
        if left[0] == 0:
            raise KeyboardInterrupt

    for module in modules:
        monkeypatch.setattr(f"{module}.crash_point", reach)
