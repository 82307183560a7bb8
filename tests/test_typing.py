"""The package is typed: the Python in README and in docs/python.md passes pyright in its strict mode."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

from .conftest import REPO


def test_the_wheel_says_that_it_is_typed():
    assert (Path(zoo.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_snippets_pass_pyright_strict(tmp_path, page):
    tool = Path(sys.executable).parent / "pyright"
    if not tool.exists():
        pytest.skip("pyright is not installed")
    blocks = re.findall(r"^```python\n(.*?)^```", (REPO / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    (tmp_path / "snippet.py").write_text("\n".join(blocks), encoding="utf-8")
    # expressions that show what there is are no statements of a program
    settings = {"typeCheckingMode": "strict", "reportUnusedExpression": "none", "extraPaths": [str(REPO)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [tool, "--pythonpath", sys.executable, "-p", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
