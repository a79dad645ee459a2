"""Microseconds a message costs in each operation a checkpointer is made of, over whole tool-calling conversations.

    python -m benchmarks.primitives [--transcripts FOLDER]

They explain the ratios of `benchmarks.run`: a saver that serializes the whole list of messages at every checkpoint
pays the first two for each message each time, one that asks "is this still what I stored?" pays a comparison.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import statistics
import time
from collections.abc import Callable

import ormsgpack
from langchain_core.messages import AnyMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks.conversations import add_transcripts_option, conversations
from benchmarks.environment import commit_seconds, environment
from benchmarks.report import Table

PASSES = 9
"""How often each operation goes over all the messages; its figure is the median pass."""

CONVERSATIONS = 100


def primitives(messages: list[AnyMessage]) -> dict[str, float]:
    """Seconds per message of each operation, named as it would be written."""
    serializer = JsonPlusSerializer()
    typed = [serializer.dumps_typed(message) for message in messages]
    packed = [ormsgpack.packb(vars(message)) for message in messages]
    # A deep copy shares its strings with the original, as a list of messages shares them with what a saver keeps.
    kept = [copy.deepcopy(vars(message)) for message in messages]
    average = sum(map(len, packed)) // len(packed)

    def over(operation: Callable[[int], object]) -> float:
        indices = range(len(messages))
        times = []
        for _ in range(PASSES):
            begin = time.perf_counter()
            for index in indices:
                operation(index)
            times.append(time.perf_counter() - begin)
        return statistics.median(times) / len(messages)

    call = over(lambda index: messages[index])
    timed = {
        "JsonPlusSerializer().dumps_typed(message)": over(lambda index: serializer.dumps_typed(messages[index])),
        "JsonPlusSerializer().loads_typed(typed)": over(lambda index: serializer.loads_typed(typed[index])),
        "ormsgpack.packb(message.__dict__)": over(lambda index: ormsgpack.packb(vars(messages[index]))),
        "ormsgpack.unpackb(packed)": over(lambda index: ormsgpack.unpackb(packed[index])),
        "message.__dict__ == kept": over(lambda index: vars(messages[index]) == kept[index]),
        "hashlib.blake2b(packed).digest()": over(lambda index: hashlib.blake2b(packed[index]).digest()),
    }
    # The loop and the call of the lambda are most of what the fastest of them would seem to take.
    figures = {name: max(seconds - call, 0.0) for name, seconds in timed.items()}
    figures[f"one commit of {average} bytes, synchronous=FULL"] = commit_seconds(average)
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.primitives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_transcripts_option(parser)
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    args = parser.parse_args()
    messages = [message for one in conversations(CONVERSATIONS, args.transcripts) for message in one]
    rows = [[name, f"{seconds * 1e6:.2f}"] for name, seconds in primitives(messages).items()]
    table = Table(["operation", "microseconds a message"], rows, frozenset({1}))
    print(table.markdown() if args.markdown else table.text())
    print(f"\nMedian of {PASSES} passes over {len(messages)} messages.\n\n{environment([commit_seconds()])}")


if __name__ == "__main__":
    main()
