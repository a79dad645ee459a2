"""A process that runs one workload with one saver, once, and prints its figures as one line of JSON.

It is started by `benchmarks.rounds`, never by hand. A process of its own gives each saver a heap, an import cache and
a garbage collector that no other saver has used before it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.savers import OURS, Role, Subject
from benchmarks.workloads import WORKLOADS, Figures, Sizes


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    workload: str
    role: Role
    sizes: Sizes
    ours: str = OURS

    def to_json(self) -> str:
        """The job as a command-line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "sizes": Sizes(**fields["sizes"])})


def run(job: Job) -> Figures:
    """Do the job over an empty database in a temporary folder."""
    workload = WORKLOADS[job.workload]
    subject = Subject(job.role, job.ours, workload.encrypted)
    with tempfile.TemporaryDirectory(prefix="langgraph-durable-benchmark-") as folder:
        return workload.run(subject, Path(folder) / "checkpoints.db", job.sizes)


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job.from_json(sys.argv[1])))))
