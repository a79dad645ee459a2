"""Sizes as LangChain writes them, ("tokens", n), ("messages", n) or ("fraction", f), checked where they are given."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, cast

from langgraph_durable.errors import InvalidRequestError

Size: TypeAlias = "tuple[Literal['tokens', 'messages'], int] | tuple[Literal['fraction'], float]"
"""So many tokens, so many messages, or a share of what the model takes in (its `profile["max_input_tokens"]`)."""


class Limits(NamedTuple):
    """Where compression begins and where it ends, in tokens, or in messages."""

    unit: str
    budget: int
    target: int


def checked_size(size: Any, name: str) -> Size:
    """The size, if it is one."""
    valid = isinstance(size, tuple) and len(size) == 2 and not isinstance(size[1], bool)
    if valid and size[0] in ("tokens", "messages") and isinstance(size[1], int) and size[1] > 0:
        return cast(Size, size)
    if valid and size[0] == "fraction" and isinstance(size[1], (int, float)) and 0 < size[1] <= 1:
        return cast(Size, size)
    raise InvalidRequestError(
        f'{name} is ("tokens", n) or ("messages", n) with n above 0, or ("fraction", f) with f above 0 and at most 1, '
        f"and it was {size!r}"
    )


def checked_target(target: Any, budget: Size) -> Size | float:
    """What is compressed to: a share of the budget, or a size in the same unit."""
    if isinstance(target, float) or (isinstance(target, int) and not isinstance(target, bool)):
        if not 0 < target <= 1:
            raise InvalidRequestError(
                'target is a share of the budget, above 0 and at most 1, or a size such as ("tokens", 1000), and it '
                f"was {target!r}"
            )
        return float(target)
    size = checked_size(target, "target")
    if (size[0] == "messages") != (budget[0] == "messages"):
        raise InvalidRequestError(f"target {target!r} and budget {budget!r} count different things")
    if size[0] == budget[0] and size[1] > budget[1]:
        raise InvalidRequestError(f"target {target!r} is above the budget {budget!r}")
    return size


def limits(budget: Size, target: Size | float, window: int | None) -> Limits:
    """The two marks; `window` is how many tokens the model takes in, where that is known."""
    most = _resolved(budget, window, "budget")
    aim = int(most * target) if isinstance(target, float) else _resolved(target, window, "target")
    return Limits("messages" if budget[0] == "messages" else "tokens", most, max(1, min(aim, most)))


def window_of(model: Any) -> int | None:
    """How many tokens a model takes in, as its profile says; None where it does not."""
    profile = getattr(model, "profile", None)
    found = profile.get("max_input_tokens") if isinstance(profile, dict) else None
    return found if isinstance(found, int) and found > 0 else None


def _resolved(size: Size, window: int | None, name: str) -> int:
    if size[0] != "fraction":
        return int(size[1])
    if window is None:
        raise InvalidRequestError(
            f"{name}={size!r} is a share of what the model takes in, and that is not known here: give "
            f'("tokens", n), or a model that has profile={{"max_input_tokens": n}}'
        )
    return max(1, int(window * size[1]))
