"""Every notebook runs from its first cell to its last."""

import json

import pytest
from matplotlib import pyplot

from .conftest import REPO


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPO / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, monkeypatch):
    pyplot.switch_backend("agg")
    names: dict = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["layer_scores"]["fc.fc2"] > names["layer_scores"]["pixels"]
    pyplot.close("all")
