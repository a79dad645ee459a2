"""The two loops that drive what was decided once: a generator asks, and it is done, waited for or awaited.

An error of the answer is raised at the yield: the generator decides whether it raises it again, or goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, cast

Asked = TypeVar("Asked")
T = TypeVar("T")


def driven(asking: Generator[Asked, Any, T], answer: Callable[[Asked], Any]) -> T:
    """What a generator ends with, everything that it asked for having been answered."""
    try:
        asked = next(asking)
        while True:
            try:
                answered = answer(asked)
            except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
                asked = asking.throw(error)
            else:
                asked = asking.send(answered)
    except StopIteration as end:
        return cast(T, end.value)


async def adriven(asking: Generator[Asked, Any, T], answer: Callable[[Asked], Awaitable[Any]]) -> T:
    """`driven` for a coroutine."""
    try:
        asked = next(asking)
        while True:
            try:
                answered = await answer(asked)
            except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
                asked = asking.throw(error)
            else:
                asked = asking.send(answered)
    except StopIteration as end:
        return cast(T, end.value)
