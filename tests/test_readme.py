"""What README and the guides in docs/ say works: the commands that this machine can run, every line of Python, and the
table of the cards. ``tests/test_docs.py`` tests the site and the pages that are not guides.
"""

import re
import shlex
import sys

import pytest
from PIL import Image

from zoo.cli import main as zoo_command

from .conftest import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
GUIDES = (
    "install", "use", "train", "watch", "resume", "transfer_learning", "text", "generative", "few_labels", "data",
)  # fmt: skip
TEXT = "\n".join([README, *((REPO / f"docs/{name}.md").read_text(encoding="utf-8") for name in GUIDES)])
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.M | re.S)
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
TRAIN = sorted({line for line in LINES if line.startswith("python train.py")})
ZOO = sorted({line for line in LINES if line.startswith("zoo ")})
# what needs another machine, a compiler, or an earlier run
NEEDS_MORE = ("trainer=gpu", "compile=true", "resume=")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """The files that the examples name."""
    (tmp_path / "scans").mkdir()
    for name in ("digit.png", "scans/a.png", "scans/b.jpg"):
        Image.new("L", (28, 28)).save(tmp_path / name)
    (tmp_path / "my.txt").write_text("A text of my own.\n" * 200)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", [line for line in TRAIN if not any(word in line for word in NEEDS_MORE)])
def test_training_commands(run_train, tmp_path, line):
    (tmp_path / "my.txt").write_text("A text of my own. " * 2000)
    arguments = shlex.split(line, comments=True)[2:]
    if "debug=overfit" in arguments:
        arguments.append("trainer.max_epochs=2")
    else:
        arguments.append("debug=fast")
        arguments += [f"data.{key}=8" for key in ("batch_size", "eval_batch_size") if f"data.{key}=" not in line]
    code, output = run_train(*arguments)
    assert code == 0, output


@pytest.mark.parametrize("line", ZOO)
def test_zoo_commands(pictures, monkeypatch, capsys, line):
    arguments = shlex.split(line, comments=True)
    if "onnx" in arguments:
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        zoo_command()
    assert not stop.value.code, capsys.readouterr()
    assert capsys.readouterr().out.strip()


def test_errors_are_as_shown(run_train):
    shown = re.findall(r"^\$ python train\.py (.*)\n(error: .*)", TEXT, flags=re.M)
    assert shown
    for arguments, message in shown:
        assert run_train(*shlex.split(arguments)) == (1, message + "\n")


def test_python(pictures):
    blocks = [block for language, block in BLOCKS if language == "python"]
    assert len(blocks) >= 2
    for block in blocks:
        names: dict = {}
        exec(block, names)
        if "probabilities" in names:
            assert names["probabilities"].shape == (1, 10)


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.M)
    for target in re.findall(r"\bmake ([a-z-]+)", TEXT + (REPO / "CONTRIBUTING.md").read_text()):
        assert target in targets


def test_readme_is_short():
    """A reader sees all of it at once; the rest is in docs/."""
    assert len(README.encode()) <= 6 * 1024
    assert len(re.search(r"^```python\n(.*?)^```", README, flags=re.M | re.S)[1].splitlines()) == 6


def test_what_make_train_prints_is_that_of_the_guide():
    """README shows the most important lines of the whole output in docs/train.md."""
    whole = re.search(r"^```\n\$ make train\n(.*?)^```", (REPO / "docs/train.md").read_text(), flags=re.M | re.S)[1]
    shown = re.search(r"^```\n\$ make train\n(.*?)^```", README, flags=re.M | re.S)[1]
    for line in shown.splitlines():
        parts = ".*".join(re.escape(part) for part in line.split("…"))
        assert re.search(f"^{parts}$", whole, flags=re.M), line


def test_tables_are_the_cards():
    from zoo.pretrained.card import read_shipped
    from zoo.pretrained.results import family_rows, page_with_table, results_table, shipped_rows

    cards, errors = read_shipped()
    assert not errors

    assert page_with_table(README, family_rows(cards), "README.md") == README
    page = (REPO / "docs" / "shipped.md").read_text(encoding="utf-8")
    assert page_with_table(page, shipped_rows(cards), "docs/shipped.md") == page
    assert (REPO / "RESULTS.md").read_text(encoding="utf-8") == results_table(cards)


def test_a_family_is_shown_by_its_best_weights():
    """Better means lower for some metrics; a part of the classes or labels does not stand for the whole."""
    from zoo.pretrained.card import Card
    from zoo.pretrained.results import family_rows

    def card(name: str, metric: str, value: float, model: str = "zoo.models.mlp.MLP", **data) -> Card:
        model = {"_target_": model}
        return Card(name, name, model, {}, {"name": "mnist", **data}, {}, metric=metric, metrics={metric: value})

    rows = family_rows(
        [
            card("good", "accuracy", 0.9),
            card("bad", "accuracy", 0.8),
            card("easy", "accuracy", 0.99, keep=[0, 1]),
            card("near", "fid", 1.0, "zoo.models.gan.GAN"),
            card("far", "fid", 2.0, "zoo.models.gan.GAN"),
            card("few", "accuracy", 0.5, "zoo.models.ladder.Ladder", labels_per_class=10),
        ]
    )
    assert rows[2:] == [
        "| [gan](zoo/models/gan.py) | `near` | fid 1.0000 ↓ |",
        "| [ladder](zoo/models/ladder.py) | `few` | 50.00% ↑ |",
        "| [mlp](zoo/models/mlp.py) | `good` | 90.00% ↑ |",
    ]
