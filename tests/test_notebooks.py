"""The notebooks run as they are saved, offline, and what is saved in them is what a reader should see."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

OFFLINE = """
import socket


def _refuse(*args, **kwargs):
    raise OSError("a notebook must not need the network")


socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = _refuse
"""

OUTPUT_BYTES = 100_000


def saved(notebook: Path) -> Any:
    return nbformat.read(notebook, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    """Every output of a notebook, in order."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(output: Any) -> str:
    """What an output says in text."""
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


def test_there_are_notebooks() -> None:
    """The folder of notebooks is not empty."""
    assert NOTEBOOKS


# Some of its releases announce that its folders will be elsewhere one day.
@pytest.mark.filterwarnings("ignore:Jupyter is migrating:DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of a notebook runs in order, in a folder of its own and without network, and nothing is warned of."""
    copied = saved(Path(shutil.copy(path, tmp_path)))
    copied.cells.insert(0, nbformat.v4.new_code_cell(OFFLINE))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    client = nbclient.NotebookClient(copied, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert [text_of(output) for output in outputs(copied) if output.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_saved_with_its_outputs(path: Path) -> None:
    """A saved notebook was run once from top to bottom, without errors or warnings, and is small."""
    notebook = saved(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    found = outputs(notebook)
    assert found
    assert {(output.output_type, output.get("name")) for output in found} <= {
        ("stream", "stdout"),
        ("display_data", None),
        ("execute_result", None),
    }
    assert max(len(str(output)) for output in found) < OUTPUT_BYTES
    for output in found:
        # Neither the machine it ran on nor an object that shows nothing but where it was in memory.
        assert not re.search(rf"{re.escape(sys.prefix)}|/(home|tmp|root|Users|var)/| at 0x[0-9a-f]+", text_of(output))
