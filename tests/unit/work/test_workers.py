"""Threads that run tasks."""

from __future__ import annotations

import gc
import weakref

from libs.common.work.workers import Workers
from tests.running import until


class Large:
    """A result, or a task."""


def test_results_are_kept_by_nobody_but_who_collects_them() -> None:
    """Neither is the task: a thread that waits for the next one holds no memory."""
    workers: Workers[Large, Large] = Workers(2, lambda _: Large())
    workers.start()
    alive: list[weakref.ref[Large]] = []
    for _ in range(6):
        task = Large()
        workers.submit(task)
        (collected,) = workers.collect(30.0)
        alive += [weakref.ref(one) for one in collected if isinstance(one, Large)]
        del task, collected
    gc.collect()
    until(lambda: not any(one() for one in alive), "nobody holds them")
    assert len(alive) == 12
    workers.stop()
