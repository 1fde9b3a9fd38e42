"""What this process's metrics show, for tests that see them move."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import REGISTRY


def value(metric: str, **labels: str) -> float:
    """Return one sample; 0 while there is none."""
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def since_now(metric: str, **labels: str) -> Callable[[], float]:
    """Return what tells by how much one sample has grown since this call."""
    before = value(metric, **labels)
    return lambda: value(metric, **labels) - before
