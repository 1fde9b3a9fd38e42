"""The error that ends a run."""

from __future__ import annotations

from libs.common.errors import BlobtideError


class BenchmarkFailed(BlobtideError):
    """A process ended, took too long, or lost something: there is no figure to report."""
