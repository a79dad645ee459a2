"""The garbage collector waits while many objects are made of stored bytes: none of them can be garbage yet.

After every 700 it would walk what there is, which is a third of the time that a long list takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

MANY = 100
"""Values that are made at once, from which on it waits."""

_NOTHING: AbstractContextManager[None] = nullcontext()


def uncollected(count: int) -> AbstractContextManager[None]:
    """`with` it: `count` values are made."""
    return _paused() if count >= MANY and gc.isenabled() else _NOTHING


# A generator and no class: Ctrl-C at the beginning of an `__exit__` would leave the collector off.
@contextmanager
def _paused() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
