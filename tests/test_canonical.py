"""JSON has one text, whoever writes it, and what is none is refused."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_durable import InvalidRequestError
from langgraph_durable.environment.canonical import canonical, digest


def test_canonical_json_is_one_text() -> None:
    """Keys are sorted, there are no spaces, and all of it is ASCII."""
    assert canonical({"b": [1, 1.0, True, None, (2.5e300,)], "a": "é\ud800", "": {}}) == (
        '{"":{},"a":"\\u00e9\\ud800","b":[1,1.0,true,null,[2.5e+300]]}'
    )
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def in_itself() -> list[Any]:
    """A list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (float("nan"), "value is nan"),
        ({"a": [0, float("-inf")]}, r"value\['a'\]\[1\] is -inf"),
        ({"a": {1: 2}}, r"value\['a'\] has the key 1"),
        ([b""], r"value\[0\] is of type bytes"),
        ({"a": {1}}, r"value\['a'\] is of type set"),
        (in_itself(), "in itself"),
    ],
)
def test_what_is_no_json_has_no_canonical_form(value: Any, wrong: str) -> None:
    """What JSON cannot say is refused, and where it is."""
    with pytest.raises(InvalidRequestError, match=wrong):
        canonical(value)
