"""How a thread stands, as the JSON of a line: what is said in it comes back the same, what is usual is left out.

    "at":1763752368.123,"next":["tools"],"messages":12       of a checkpoint; also "by", "move" and "step" where
                                                             they do not follow from what is there
    "event":{"at":...,"move":"raised","nodes":["tools"], ...}

`by`, a process, is said where it is another one than in the line before. Where that line is lost it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_durable.core.readable import from_bytes, to_bytes, to_text
from langgraph_durable.core.records import Event, Inline, Mark, Standing


def kept(made: Mark) -> Mark:
    """A mark as a line can say it: to the millisecond, and no step that JSON has no number for."""
    fits = made.step is None or -(2**63) <= made.step < 2**63
    return made._replace(time=round(made.time, 3), step=made.step if fits else None)


def kept_event(event: Event) -> Event:
    """An event as a line can say it."""
    return event._replace(time=round(event.time, 3))


def said_mark(made: Mark, step: int | None, by: str) -> list[str]:
    """The members of a checkpoint's line; `step` is the one that its metadata say, `by` who has put the line before."""
    said = [f'"at":{to_text(made.time)}']
    if made.by != by:
        said.append(f'"by":{to_text(made.by)}')
    if made.move != _usual(made.next):
        said.append(f'"move":{to_text(made.move)}')
    if made.next:
        said.append(f'"next":{to_text(made.next)}')
    if made.step != step:
        said.append(f'"step":{to_text(made.step)}')
    if made.messages:
        said.append(f'"messages":{made.messages}')
    return said


def mark(said: Mapping[str, Any], by: str) -> Mark | None:
    """What `said_mark` wrote; None for a line without."""
    if "at" not in said:
        return None
    following = tuple(said.get("next", ()))
    step = said["step"] if "step" in said else step_of(said.get("metadata"))
    move = said.get("move") or _usual(following)
    return Mark(float(said["at"]), move, following, step, said.get("messages", 0), said.get("by", by))


def step_of(metadata: Any) -> int | None:
    """The step that metadata say."""
    step = metadata.get("step") if isinstance(metadata, dict) else None
    return step if type(step) is int else None


def said_event(event: Event, by: str | None) -> str:
    """An event as an object; `by` is as for a mark, None where it is always said."""
    said = [f'"at":{to_text(event.time)},"move":{to_text(event.move)}']
    if event.nodes:
        said.append(f'"nodes":{to_text(event.nodes)}')
    if event.error is not None:
        said.append(f'"error":{from_bytes(*event.error)}')
    if event.by != by:
        said.append(f'"by":{to_text(event.by)}')
    return f"{{{','.join(said)}}}"


def event_of(said: Mapping[str, Any], by: str = "") -> Event:
    """What `said_event` wrote."""
    return Event(
        float(said["at"]), said["move"], tuple(said.get("nodes", ())), _error(said.get("error")), said.get("by", by)
    )


def said_standing(standing: Standing) -> str:
    """A standing as an object."""
    said = [
        f'"{name}":{to_text(value)}'
        for name, value in standing._asdict().items()
        if name not in ("error", "ahead") and value is not None
    ]
    if standing.error is not None:
        said.append(f'"error":{from_bytes(*standing.error)}')
    if standing.ahead is not None:
        said.append(f'"ahead":[{to_text(standing.ahead[0])},{said_event(standing.ahead[1], None)}]')
    return f"{{{','.join(said)}}}"


def standing_of(said: Mapping[str, Any]) -> Standing:
    """What `said_standing` wrote."""
    ahead = said.get("ahead")
    return Standing(
        said["status"],
        said["reason"],
        tuple(said["nodes"]),
        _error(said.get("error")),
        said["checkpoint_id"],
        said.get("step"),
        said.get("created"),
        float(said["updated"]),
        said.get("run_id"),
        said["by"],
        said["checkpoints"],
        said["messages"],
        said["bytes"],
        None if ahead is None else (ahead[0], event_of(ahead[1])),
    )


def _usual(following: tuple[str, ...]) -> str:
    return "ran" if following else "finished"


def _error(said: Mapping[str, Any] | None) -> Inline | None:
    return None if said is None else Inline(*to_bytes(said))
