"""Query a service on this machine through its health port: readiness and metrics."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families

_SECONDS: Final = 1.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Families = dict[str, list[tuple[Mapping[str, str], float]]]
"""Samples by metric name: labels and value."""


def is_ready(port: int | None) -> bool:
    """Query ``/readyz``; a program without a health port is ready as soon as it runs."""
    if port is None:
        return True
    return ask(port, "/readyz") is not None


def ask(port: int, path: str) -> str | None:
    """Return the response of a program on this machine, never through a proxy; None unless it succeeds."""
    try:
        with _DIRECT.open(_address(port, path), timeout=_SECONDS) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException, UnicodeDecodeError):
        return None


def why_not_ready(port: int) -> str | None:
    """Return the reason given by ``/readyz``, or that there was no response; None if the program is ready."""
    try:
        with _DIRECT.open(_address(port, "/readyz"), timeout=_SECONDS):
            return None
    except HTTPError as error:
        with error:
            return _reason_in(error)
    except (OSError, HTTPException):
        return f"no response on its health port {port}"


def _reason_in(answer: HTTPError) -> str:
    try:
        return str(json.loads(answer.read())["reason"])
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return f"it is not ready (status {answer.code})"


def _address(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"


def metrics_of(port: int) -> Families:
    """Return the metrics of a service; none if it does not respond, or if something else listens on its port."""
    families: Families = {}
    with suppress(ValueError):
        for family in text_string_to_metric_families(ask(port, "/metrics") or ""):
            for sample in family.samples:
                families.setdefault(sample.name, []).append((sample.labels, sample.value))
    return families


def total(families: Families, metric: str, wanted: Mapping[str, str] | None = None) -> float:
    """Return the sum of a metric over the samples with the `wanted` labels."""
    return sum(value for labels, value in families.get(metric, ()) if (wanted or {}).items() <= labels.items())
