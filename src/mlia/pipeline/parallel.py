"""Several pieces of work at once. The work is in child processes, so threads keep every core busy."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def map_in_parallel(run: Callable[[_Given], _Made], given: Sequence[_Given]) -> tuple[_Made, ...]:
    """What `run` makes of each, in their order."""
    if len(given) == 1:
        return (run(given[0]),)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(pool.map(run, given))


def attempt_in_parallel(
    run: Callable[[_Given], _Made], given: Sequence[_Given], refusals: tuple[type[Exception], ...]
) -> list[_Made | Exception]:
    """What `run` makes of each, in their order, or the refusal it raised. An interrupt does not wait for the rest."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(run, each) for each in given]
        made: list[_Made | Exception] = []
        for future in futures:
            try:
                made.append(future.result())
            except refusals as refusal:
                made.append(refusal)
        return made
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
