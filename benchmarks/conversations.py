"""A conversation is a list of LangChain messages with stable ids, recorded or made up, the same in every process."""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

from langchain_core.messages import AnyMessage, convert_to_messages

OpenAIMessage = dict[str, Any]
ToolUse = tuple[str, dict[str, Any], Any]
"""A tool's name, its arguments, its result."""

_VARIABLE = "LANGGRAPH_DURABLE_TRANSCRIPTS"
_PROMPT_BYTES = 6_000
_SHORTEST, _LONGEST = 20, 40


def conversations(limit: int, folder: Path | None) -> list[list[AnyMessage]]:
    """Up to `limit` conversations: of the transcripts in `folder`, or made up where there is none."""
    texts = [_made_up(number) for number in range(limit)] if folder is None else _recorded(folder)[:limit]
    return [_with_ids(number, text) for number, text in enumerate(texts)]


def add_transcripts_option(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the option `--transcripts`, whose value is what `conversations` takes as `folder`."""
    parser.add_argument(
        "--transcripts",
        type=_folder,
        default=os.environ.get(_VARIABLE),
        metavar="FOLDER",
        help="recorded conversations: *.jsonl, each line an object whose `messages` are in OpenAI's format; "
        f"default: ${_VARIABLE}, and without it made-up ones, the same in every run",
    )


def _folder(text: str) -> Path:
    folder = Path(text).resolve()
    if not any(folder.glob("*.jsonl")):
        raise argparse.ArgumentTypeError(f"there are no transcripts (*.jsonl) in {text}")
    return folder


def _recorded(folder: Path) -> list[list[OpenAIMessage]]:
    """Every line of every `*.jsonl` in `folder`: an object whose `messages` are in OpenAI's format."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()]
    return [json.loads(line)["messages"] for line in lines]


def _with_ids(number: int, text: list[OpenAIMessage]) -> list[AnyMessage]:
    # LangGraph gives a message without an id a random one, and then no two runs would put the same bytes.
    messages: list[Any] = convert_to_messages(text)
    for index, message in enumerate(messages):
        message.id = f"conversation-{number}-message-{index}"
    return messages


def _made_up(number: int) -> list[OpenAIMessage]:
    """One customer of a mail-order shop and its support agent, of `_SHORTEST` to `_LONGEST` messages.

    Sizes follow recorded support conversations: a long system prompt, short lines of talk, a tool call every few
    messages, and results of a few hundred bytes of JSON up to some kilobytes.
    """
    rng = random.Random(f"conversation {number}")
    length = rng.randint(_SHORTEST + 3, _LONGEST)
    messages: list[OpenAIMessage] = [{"role": "system", "content": _PROMPT}]
    while len(messages) <= length - 2:
        messages.append({"role": "user", "content": _talk(rng, rng.randint(1, 3))})
        room = (length - len(messages) - 1) // 2
        for _ in range(min(room, rng.choice((0, 0, 1, 1, 2)))):
            messages += _tool_use(rng, f"call_{number}_{len(messages)}")
        messages.append({"role": "assistant", "content": _talk(rng, rng.randint(2, 6))})
    return messages


def _tool_use(rng: random.Random, call_id: str) -> list[OpenAIMessage]:
    name, arguments, result = rng.choice((_order, _search, _customer))(rng)
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "name": name, "content": json.dumps(result)},
    ]


def _order(rng: random.Random) -> ToolUse:
    number = f"#W{rng.randint(1_000_000, 9_999_999)}"
    items = [_product(rng) for _ in range(rng.randint(1, 5))]
    found = {
        "order_id": number,
        "status": rng.choice(("pending", "processed", "delivered", "cancelled")),
        "address": _address(rng),
        "items": items,
        "payment_history": [{"type": "payment", "amount": round(sum(item["price"] for item in items), 2)}],
    }
    return "get_order", {"order_id": number}, found


def _search(rng: random.Random) -> ToolUse:
    return (
        "search_products",
        {"query": _sentence(rng), "in_stock": True, "limit": 12},
        [_product(rng) for _ in range(rng.randint(2, 12))],
    )


def _customer(rng: random.Random) -> ToolUse:
    found = {
        "name": {"first": rng.choice(_NAMES), "last": rng.choice(_NAMES)},
        "address": _address(rng),
        "email": f"{rng.choice(_NAMES).lower()}{rng.randint(10, 9999)}@example.com",
        "orders": [f"#W{rng.randint(1_000_000, 9_999_999)}" for _ in range(rng.randint(1, 6))],
    }
    return "get_customer", {"customer_id": f"customer_{rng.randint(1000, 9999)}"}, found


def _product(rng: random.Random) -> dict[str, Any]:
    return {
        "name": f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}",
        "item_id": str(rng.randint(10**9, 10**10 - 1)),
        "price": round(rng.uniform(5, 900), 2),
        "available": rng.random() < 0.8,
        "options": {"colour": rng.choice(("black", "red", "blue", "silver")), "size": rng.choice("SML")},
    }


def _address(rng: random.Random) -> dict[str, str]:
    return {
        "street": f"{rng.randint(1, 999)} {rng.choice(_NAMES)} Street",
        "city": f"{rng.choice(_NAMES)}ville",
        "zip": str(rng.randint(10_000, 99_999)),
    }


def _talk(rng: random.Random, sentences: int) -> str:
    return " ".join(_sentence(rng) for _ in range(sentences))


def _sentence(rng: random.Random) -> str:
    return (
        f"{rng.choice(_OPENINGS)} the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)} {rng.choice(_VERBS)} "
        f"{rng.choice(_ENDINGS)}."
    )


_NAMES = ("Mercer", "Okafor", "Lindqvist", "Haruka", "Delgado", "Novak", "Ferreira", "Amara", "Bauer", "Kowalski")
_ADJECTIVES = ("returned", "damaged", "second", "wireless", "waterproof", "large", "missing", "original", "refunded")
_NOUNS = ("order", "headset", "parcel", "gift card", "invoice", "jacket", "keyboard", "bottle", "bookshelf", "lamp")
_VERBS = (
    "was delivered",
    "can be exchanged",
    "has to be confirmed",
    "was charged twice",
    "is kept",
    "must not be sent",
)
_OPENINGS = (
    "Please check whether",
    "I see that",
    "According to the order,",
    "As far as I know,",
    "Then",
    "In that case",
)
_ENDINGS = (
    "within thirty days of delivery",
    "to the address on the account",
    "with the original method of payment",
    "before the customer has agreed in writing",
    "only once for each order",
    "unless it is already on its way",
)

# Every conversation opens with the same prompt, as those of one application do.
_PROMPT = _talk(random.Random("system prompt"), 100)[:_PROMPT_BYTES]
