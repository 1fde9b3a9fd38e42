"""The one error that ends a run."""

from __future__ import annotations

from libs.common.errors import BlobtideError


class BenchmarkFailed(BlobtideError):
    """Something ended, took too long, or did not arrive: there is no figure to report."""
