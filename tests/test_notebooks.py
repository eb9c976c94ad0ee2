"""The notebooks in `examples/` run, and say what their committed outputs say."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


def read(path: Path):
    return pytest.importorskip("nbformat").read(path, as_version=4)


def outputs(notebook) -> list[list[str]]:
    """What each cell put out, as text; a picture by its kind."""
    return [
        [
            output.get("text") or output["data"].get("text/plain", "") + " ".join(sorted(output["data"]))
            for output in cell["outputs"]
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_pictures_and_is_short(path):
    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs and cell.execution_count == i for i, cell in enumerate(cells, 1))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert len(cells) <= 8 and path.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_what_it_said(path, monkeypatch):
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(path.parent.parent))  # its kernel is a process of its own
    notebook = read(path)
    said = outputs(notebook)
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert outputs(notebook) == said
