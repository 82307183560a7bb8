"""``zoo lr``: the learning-rate range test."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from zoo.cli import app
from zoo.errors import ZooError
from zoo.use.lr import composed, range_test


@pytest.fixture
def folder(monkeypatch, tmp_path, toy_data) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_loss_falls_at_the_suggested_rate(folder):
    """The rates rise exponentially; the suggestion lies among them, and before the loss is highest."""
    words = ["model=linear", "data.val_size=100", "data.batch_size=50"]
    result = range_test(words, 1e-5, 100.0, 60)
    ratios = {round(b / a, 3) for a, b in zip(result.rates[1:], result.rates[2:], strict=False)}
    assert len(ratios) == 1
    assert ratios.pop() > 1
    assert result.rates[0] < result.suggestion < result.rates[-1]
    assert min(result.losses) < result.losses[0]
    assert range_test(words, 1e-5, 100.0, 60) == result  # the same seed gives the same result


def test_the_command(folder, capfd):
    done = CliRunner().invoke(app, ["lr", "model=linear", "data.val_size=100", "--steps", "40", "--out", "found.png"])
    assert done.exit_code == 0, done.output
    assert "optimizer.lr=" in done.output
    assert capfd.readouterr().err == ""  # no progress bar, as this is no terminal
    assert "Finding" not in done.output
    with Image.open("found.png") as picture:
        assert picture.width > 500
    assert [path.name for path in folder.iterdir()] == ["found.png"]  # nothing else is left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lenet5_mnits"], "did you mean lenet5_mnist"),
        (["model=lenet6"], "model=lenet6"),
        (["optimizer.lr=-1"], "optimizer.lr=-1 is not valid"),
        (["gan_mnist", "data.val_size=100"], "zoo lr is for tasks that one optimizer trains"),
    ],
)
def test_what_is_wrong_in_one_line(folder, words, message):
    with pytest.raises(ZooError, match=message) as caught:
        range_test(words, 1e-6, 10.0, 30)
    assert "\n" not in str(caught.value)


def test_an_experiment_is_a_word(folder):
    assert composed(["lenet5_mnist"]) == composed(["experiment=lenet5_mnist"])
