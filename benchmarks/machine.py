"""The machine on which the figures were measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import confluent_kafka
import psutil

_LIBRARIES = ("pyarrow", "msgspec", "numpy", "confluent-kafka", "urllib3", "azure-storage-blob")


def describe() -> str:
    """Return a Markdown list: date, processor, cores, memory, system, versions."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    facts = {
        "Date": f"{datetime.now(UTC):%Y-%m-%d}",
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Libraries": f"{libraries}, librdkafka {confluent_kafka.libversion()[0]}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def load() -> str:
    """Return how busy the machine is, whatever the cause."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
