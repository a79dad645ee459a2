"""How far something is that takes its time: a bar, from two seconds on, where somebody can see it."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

PATIENCE_SECONDS = 2.0


def bar(what: str, total: int | None, unit: str, shown: bool | None) -> Any:
    """A bar of `tqdm`, to be used by `with` and `update()`; `shown` None: on a terminal, and in a notebook."""
    if "tqdm.auto" not in sys.modules:
        _import_quietly()
    from tqdm.auto import tqdm

    disabled = not (_is_watched() if shown is None else shown)
    return tqdm(desc=what, total=total, unit=f" {unit}", disable=disabled, delay=PATIENCE_SECONDS, leave=False)


def _import_quietly() -> None:
    """Import what looks for a notebook, when it is needed: without ipywidgets the bar is text, no reason to warn."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        importlib.import_module("tqdm.auto")


def _is_watched() -> bool:
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    # Whoever runs in a notebook has imported this already.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
