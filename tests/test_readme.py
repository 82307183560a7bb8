"""What README says works: the commands that this machine can run, every line of Python, and the cards' table."""

import re
import shlex
import sys

import pytest
from PIL import Image

from zoo.cli import main as zoo_command

from .conftest import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.M | re.S)
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
TRAIN = [line for line in LINES if line.startswith("python train.py")]
ZOO = [line for line in LINES if line.startswith("zoo ")]
# what needs another machine, a compiler, or an earlier run
NEEDS_MORE = ("trainer=gpu", "compile=true", "resume=")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """The files that README's examples name."""
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
    shown = re.findall(r"^\$ python train\.py (.*)\n(error: .*)", README, flags=re.M)
    assert shown
    for arguments, message in shown:
        assert run_train(*shlex.split(arguments)) == (1, message + "\n")


def test_python(pictures):
    (block,) = (block for language, block in BLOCKS if language == "python")
    names: dict = {}
    exec(block, names)
    assert names["probabilities"].shape == (1, 10)


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.M)
    for target in re.findall(r"\bmake ([a-z-]+)", README + (REPO / "CONTRIBUTING.md").read_text()):
        assert target in targets


def test_links_lead_somewhere():
    for page in (README, (REPO / "CONTRIBUTING.md").read_text()):
        for link in re.findall(r"\]\(([^)#]+)\)", page):
            assert link.startswith("http") or (REPO / link).exists(), link


def test_table_is_the_cards():
    from zoo.pretrained.card import read_shipped
    from zoo.pretrained.results import readme_with_table, results_table

    cards, errors = read_shipped()
    assert not errors

    assert readme_with_table(README, cards) == README
    assert (REPO / "RESULTS.md").read_text(encoding="utf-8") == results_table(cards)
