"""Benchmarks of langgraph-durable against LangGraph's own savers; ratios are the result, seconds only their origin.

    pip install langgraph-durable langgraph langgraph-checkpoint-sqlite      (and pycryptodome, for `encrypted`)
    python -m benchmarks.run                 every workload, some minutes; `--help` for the choices
    python -m benchmarks.primitives          what the operations underneath cost, some seconds

Both are started from the root of the repository. Databases are written to the temporary folder: set TMPDIR to put
them on the disk that matters, because on a memory file system an fsync costs nothing.
"""
