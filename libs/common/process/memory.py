"""Return freed memory to the system, and keep the cycle collector from costing a fifth of the CPU.

glibc gives every thread its own arena and raises its mmap threshold with every large block that is freed, and so retains
megabytes that nothing uses; Arrow's own allocator retains them as well. With two arenas, a fixed threshold and Arrow on the C
library's allocator, the parser's peak on a backlog was 203 MiB instead of 279, the file sink's 186 instead of 273 and ingest's
175 instead of 310. The thresholds are above most blocks of a batch: at a quarter of these thresholds, returning and remapping
blocks each time cost the parser a tenth of its CPU in page faults, with the same peak.

Python runs the cycle collector after every 700 new containers. A batch has tens of thousands of them, none in a cycle, and they
are freed with the batch.

pyarrow imports pandas, where it is installed, to see whether a value comes from there: 45 MB that nobody here uses.

A large library reads much more of its code when it starts than afterwards: of DuckDB's 50 MB of code, 28 are in memory when a
condition has been prepared, and 16 while it is used.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_OPTIONS: Final = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 4 * 1024 * 1024), (_M_TRIM_THRESHOLD, 16 * 1024 * 1024))
_NEW_CONTAINERS: Final = 20_000  # more than a batch of a few thousand records has
_YOUNG_COLLECTIONS: Final = 20
_OLD_COLLECTIONS: Final = 50
_MADV_DONTNEED: Final = 4  # from Linux's mman.h
_MAPS: Final = Path("/proc/self/maps")
_ARROW_POOL: Final = "ARROW_DEFAULT_MEMORY_POOL"


def return_freed_memory() -> None:
    """Configure allocators; call before threads start and before pyarrow is imported. Without glibc, only Arrow's is set."""
    os.environ.setdefault(_ARROW_POOL, "system")
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _OPTIONS:
        set_option(option, value)


class _WithoutPandas(MetaPathFinder):
    """Finds no pandas."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        """Say that it is not installed; leave everything else to other finders."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used here", name=fullname)


def hide_pandas() -> None:
    """Let the process import everything but pandas; call before pyarrow converts anything."""
    if not any(isinstance(finder, _WithoutPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutPandas())


def give_back_code(library: str) -> None:
    """Give back the pages that hold code of a library, named by a part of its path; what is needed again is read again.

    Code is never written to, so nothing can be lost. Outside Linux, nothing happens.
    """
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        for line in _MAPS.read_text().splitlines():
            place, rights, *_, path = line.split(maxsplit=5)
            if rights == "r-xp" and library in path:
                first, end = (int(address, 16) for address in place.split("-"))
                advise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_DONTNEED)


def collect_cycles_seldom() -> None:
    """Collect cycles rarely, and not among existing objects; call once everything permanent has been built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_CONTAINERS, _YOUNG_COLLECTIONS, _OLD_COLLECTIONS)
