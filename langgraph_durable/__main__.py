"""`python -m langgraph_durable` is the `langgraph-durable` command, also where scripts are not on the PATH."""

from __future__ import annotations

import sys

from langgraph_durable.cli import main

if __name__ == "__main__":
    sys.exit(main())
