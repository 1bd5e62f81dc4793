"""Work distributed over processes, with results in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from typing import TypeVar

from edgevid.isolation.process import leave_interrupts_to_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

BATCH = 64
"""Files per batch, and so clips per shard of the cache."""


def parallel(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None = None
) -> Iterator[Result]:
    """Apply a function to each task in a pool of processes.

    Processes are spawned, not forked: a parent that has loaded a native runtime cannot be forked
    safely. With one worker or one task no process is started.

    Args:
        work: The function. It must be picklable.
        tasks: Its arguments.
        workers: Number of processes; by default one per core.

    Yields:
        Results in the order of the tasks, as soon as they are available.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=leave_interrupts_to_parent
    )
    try:
        futures: list[Future[Result]] = [pool.submit(work, task) for task in tasks]
        for future in futures:
            yield future.result()
    except BaseException:
        for worker in active_children():  # unfinished files are temporary ones, so nothing is lost
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def batches(paths: Sequence[str]) -> list[list[str]]:
    """Divide paths into the batches that one process works on at a time.

    Args:
        paths: The paths.

    Returns:
        Lists of at most `BATCH` paths.
    """
    return [list(paths[n : n + BATCH]) for n in range(0, len(paths), BATCH)]
