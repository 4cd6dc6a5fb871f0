"""Several pieces of work at once. The work is in child processes, so threads keep every core busy."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def map_in_parallel(run: Callable[[_Given], _Made], given: Sequence[_Given]) -> tuple[_Made, ...]:
    """What `run` makes of each, in their order."""
    if len(given) == 1:
        return (run(given[0]),)
    return tuple(attempt.result() for attempt in _attempts(run, given))


def attempt_in_parallel(
    run: Callable[[_Given], _Made], given: Sequence[_Given], refusals: tuple[type[Exception], ...]
) -> list[_Made | Exception]:
    """What `run` makes of each, in their order, or the refusal that it raised."""
    made: list[_Made | Exception] = []
    for attempt in _attempts(run, given):
        try:
            made.append(attempt.result())
        except refusals as refusal:
            made.append(refusal)
    return made


def _attempts(run: Callable[[_Given], _Made], given: Sequence[_Given]) -> Iterator["Future[_Made]"]:
    """Each piece of work when it is its turn to be waited for. An interrupt waits for none of them."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from [pool.submit(run, each) for each in given]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
