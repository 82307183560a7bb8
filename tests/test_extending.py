"""The examples in docs/extending.md of an own model, data set, task, picture and experiment work as they stand, from a
folder of their own: they are taken from the page, trained, resumed, measured, used and exported.
"""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zoo
from tests.conftest import REPO
from zoo.pretrained.evaluate import evaluate
from zoo.pretrained.reading import read_checkpoint

PAGE = (REPO / "docs" / "extending.md").read_text(encoding="utf-8")
# a block whose first line is the name of a file
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)^```", PAGE, flags=re.M | re.S))
COMMANDS = [line for line in re.findall(r"^```\n(.*?)^```", PAGE, flags=re.M | re.S) for line in line.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with the page's files, in which commands are called."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def test_the_page_has_one_of_each():
    assert {"my_model.py", "my_data.py", "my_task.py", "my_picture.py"} <= FILES.keys()
    assert {
        f"configs/{group}/mine.yaml" for group in ("model", "data", "task", "callbacks", "experiment")
    } <= FILES.keys()


def train(run_train, *arguments: str) -> tuple[Path, dict]:
    """A run of a few batches, and the content of its last checkpoint."""
    code, output = run_train(
        *arguments, "trainer.max_epochs=1", "trainer.limit_train_batches=3", "callbacks.progress=null",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, output
    path = Path("run/checkpoints/last.ckpt")
    return path, read_checkpoint(path)


def resume(run_train) -> None:
    """Go on for an epoch more, as the message of a stopped run says."""
    code, output = run_train("resume=run", "trainer.max_epochs=2")
    assert code == 0, output
    assert read_checkpoint(Path("run/checkpoints/last.ckpt"))["epoch"] == 1


def test_own_model(folder, run_train, command):
    path, content = train(run_train, "model=mine", "data.val_size=100")
    assert content["card"]["model"]["_target_"] == "my_model.Mine"
    resume(run_train)
    Image.new("L", (28, 28)).save("digit.png")
    predicted = command("-m", "zoo", "predict", str(path), "digit.png", "--trust", "my_model", cwd=folder)
    assert (predicted.returncode, "digit.png" in predicted.stdout) == (0, True), predicted.stderr
    with pytest.raises(zoo.ZooError, match="--trust my_model"):
        zoo.load(path)
    _, metrics, off = evaluate(path, trust=["my_model"])
    assert 0 <= metrics["accuracy"] <= 1
    assert not off
    options = ("--format", "torch_export", "--output", "mine.pt2", "--trust", "my_model")
    exported = command("-m", "zoo", "export", str(path), *options, cwd=folder)
    assert exported.returncode == 0, exported.stderr
    assert (folder / "mine.pt2").stat().st_size > 1000


def test_own_data(folder, run_train):
    path, content = train(run_train, "data=mine", "model=mlp", "model.in_channels=2", "model.image_size=1")
    assert content["card"]["classes"] == ["inner", "outer"]
    resume(run_train)
    _, metrics, off = evaluate(path, trust=["my_data"])
    assert 0 <= metrics["accuracy"] <= 1
    assert not off
    model = zoo.load(path, trust=["my_data"])
    assert model(model.preprocess.random_input(3)).shape == (3, 2)


def test_own_task(folder, run_train):
    path, content = train(run_train, "task=mine", "model=lenet5", "data.val_size=100")
    assert content["card"]["metric"] == "error"
    resume(run_train)
    _, metrics, off = evaluate(path, trust=["my_task"])
    assert 0 <= metrics["error"] <= 1
    assert not off


def test_own_picture(folder, run_train):
    train(run_train, "callbacks=[default,mine]", "data.val_size=100", "model=lenet5")
    events = EventAccumulator("run", size_guidance={"images": 0}).Reload()
    assert "mean_image" in events.Tags()["images"]
    resume(run_train)


def test_a_picture_that_does_not_fit_is_left_out(folder, run_train):
    train(
        run_train, "callbacks=[default,mine]", "data=adding", "task=regress", "model=lstm", "model.hidden=4",
        "data.steps=5", "data.train_size=200", "data.val_size=50", "data.test_size=50",
    )  # fmt: skip
    events = EventAccumulator("run", size_guidance={"images": 0}).Reload()
    assert "mean_image" not in events.Tags()["images"]


def test_own_experiment(folder, run_train):
    """It is a choice of everything; from Python it is the same files."""
    _, content = train(run_train, "experiment=mine")
    assert content["card"]["title"] == "A model of mine on data of mine"
    assert content["config"]["optimizer"]["lr"] == 0.01
    resume(run_train)


@pytest.mark.parametrize("content", ["model:\n  dropout: 0.1\n", "defaults:\n  - override /model: mlp\n"])
def test_an_experiment_without_its_header(folder, run_train, content):
    """Its values would stand under ``experiment``, where nothing reads them."""
    Path("configs/experiment/mine.yaml").write_text(content)
    code, output = run_train("experiment=mine")
    assert code == 1
    assert output.count("\n") == 1
    assert "configs/experiment/mine.yaml: write '# @package _global_' in its first line" in output


def test_a_task_whose_config_names_no_metric(folder, run_train):
    path = Path("configs/task/mine.yaml")
    path.write_text(path.read_text().replace("monitor: val/error\n", ""))
    code, output = run_train("task=mine", "model=lenet5", "data.val_size=100")
    assert code == 1
    assert output.count("\n") == 1
    assert "the task's config has no monitor: add the metric by which the best weights are chosen" in output
