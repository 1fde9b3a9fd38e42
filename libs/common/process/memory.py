"""Keep freed memory from staying with the process, and the search for cycles from costing a fifth of the work.

glibc gives every thread its own arena, raises the size from which it maps memory directly with every large block that is freed,
and so keeps megabytes that nobody uses; Arrow's own allocator keeps them as well. With two arenas, a fixed threshold and Arrow
on the C library's allocator, the parser's peak on a backlog was 203 MiB instead of 279, the file sink's 186 instead of 273 and
ingest's 175 instead of 310. The thresholds lie above most blocks of a batch: given back and mapped again each time, their page
faults cost the parser a tenth of its CPU at a quarter of these thresholds, and the peak was the same.

Python looks for cycles after every 700 new containers. A batch has tens of thousands of them, none in a cycle, and they go when
the batch goes.
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_OPTIONS: Final = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 4 * 1024 * 1024), (_M_TRIM_THRESHOLD, 16 * 1024 * 1024))
_NEW_CONTAINERS: Final = 20_000  # more than a batch of a few thousand records has
_YOUNG_COLLECTIONS: Final = 20
_OLD_COLLECTIONS: Final = 50
_ARROW_POOL: Final = "ARROW_DEFAULT_MEMORY_POOL"


def return_freed_memory() -> None:
    """Set allocators up; call before threads start and before pyarrow is imported. Without glibc only Arrow's is set."""
    os.environ.setdefault(_ARROW_POOL, "system")
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _OPTIONS:
        set_option(option, value)


def collect_cycles_seldom() -> None:
    """Look for cycles seldom, and not in what exists now; call once all that stays has been built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_CONTAINERS, _YOUNG_COLLECTIONS, _OLD_COLLECTIONS)
