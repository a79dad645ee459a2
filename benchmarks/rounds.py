"""In a round every saver has its turn, so that a machine that slows down or speeds up does it to all of them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.savers import NAMES, Role
from benchmarks.worker import Job
from benchmarks.workloads import WORKLOADS, Figures, Sizes

Round = Mapping[Role, Figures]

_ROOT = Path(__file__).resolve().parent.parent


class RunFailedError(Exception):
    """A saver's process ended with an error; the message holds what it wrote."""


def measure(
    workloads: Sequence[str], rounds: int, sizes: Sizes, ours: str, progress: Callable[[str], None]
) -> dict[str, list[Round]]:
    """The rounds of each of `workloads`; `progress` is told about every process before it starts.

    Raises RunFailedError at the first saver that fails.
    """
    total = sum(rounds * WORKLOADS[name].repeats * len(WORKLOADS[name].roles) for name in workloads)
    started = 0
    found: dict[str, list[Round]] = {name: [] for name in workloads}
    for number in range(1, rounds + 1):
        for name in workloads:
            for _ in range(WORKLOADS[name].repeats):
                of_round: dict[Role, Figures] = {}
                for role in WORKLOADS[name].roles:
                    started += 1
                    progress(f"[{started}/{total}] round {number} of {rounds}, {name}: {NAMES[role]}")
                    of_round[role] = _run(Job(name, role, sizes, ours))
                found[name].append(of_round)
    return found


def median(rounds: Sequence[Round]) -> Round:
    """The median of each saver's figures, each figure by itself."""
    return {role: _median([of_round[role] for of_round in rounds]) for role in rounds[0]}


def _median(figures: Sequence[Figures]) -> Figures:
    medians: dict[str, Any] = {
        field.name: _median_of(getattr(one, field.name) for one in figures) for field in fields(Figures)
    }
    return Figures(**medians)


def _median_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _run(job: Job) -> Figures:
    # A tracer that the user's shell turns on would be timed with every saver, and would send the messages out.
    environment = {**os.environ, "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", job.to_json()],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RunFailedError(f"{job.workload} with {NAMES[job.role]} failed:\n{process.stderr[-4000:]}")
    return Figures(**json.loads(process.stdout.splitlines()[-1]))
