"""Attacks that once succeeded, and what stands against their kind: by names, sizes, counts and control characters."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data_helpers import assert_fails
from tests.plants import Watched, make_runs, plant, train_here
from zoo.config.own import own_modules
from zoo.data.streams import Evaluation
from zoo.data.synthetic import SyntheticData
from zoo.models.pixelcnn import PixelCNN
from zoo.paths import CONFIGS
from zoo.pretrained.reading import read_checkpoint
from zoo.run.guard import as_command
from zoo.run.known import Known
from zoo.run.resume import MOST_COUNTED, check_counts, place_of
from zoo.run.stored import taken
from zoo.use.pictures import draw


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make_runs(tmp_path_factory.mktemp("runs"), ["averaged"])["averaged"]


@pytest.fixture
def place(tmp_path, monkeypatch, toy_data, finished) -> Watched:
    found = Watched(tmp_path, finished)
    found.enter(monkeypatch)
    return found


@pytest.fixture
def content(place) -> dict[str, Any]:
    return plant(place.content(), ("config", "trainer", "max_epochs"), 2)


def resume(place: Watched, content: dict[str, Any], capfd) -> tuple[int, str]:
    place.write(content)
    capfd.readouterr()
    code = train_here("resume=../run")
    return code, "".join(capfd.readouterr())


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [("card", "_target_"), ("card", "_args_"), ("init", "_target_"), ("_target_",)])
def test_a_name_where_nothing_is_made_is_not_heard_of(place, content, capfd, at):
    """Else a stranger's torch_xla.py in this folder would be found, when Lightning asks whether there is a torch_xla.

    A resumed run lets modules be found here by the names that its user has said alone.
    """
    before = set(own_modules.names)
    code, output = resume(place, plant(content, ("config", *at), "torch_xla.Model"), capfd)
    assert code == 1, output
    assert output.count("\n") == 1
    assert f"asks for {'.'.join(at)}=torch_xla.Model" in output
    assert own_modules.names == before
    place.check(output)


def test_a_resumed_run_lets_no_more_modules_be_found(place, content, capfd, monkeypatch):
    before = set(own_modules.names)
    monkeypatch.setattr("zoo.run.stored.refusals", lambda *_: ())  # whatever passes
    code, output = resume(place, plant(content, ("config", "card", "_target_"), "torch_xla.Model"), capfd)
    assert code == 0, output
    assert own_modules.names == before


@pytest.mark.parametrize("key", ["hydra", "defaults"])
def test_hydras_own_part_of_a_config_is_not_taken(content, key):
    config = plant(content["config"], (key,), {"run": {"dir": "x"}})
    assert key not in taken(config, Known([CONFIGS]), [], "it")


@pytest.mark.parametrize("odd", [7, ("a",), None, b"x"])
def test_a_config_whose_keys_are_no_texts(content, odd):
    for config in (plant(content["config"], (odd,), 1), plant(content["config"], ("card", odd), 1)):
        assert_fails(lambda config=config: taken(config, Known([CONFIGS]), [], "it"), "it: its config has a key of")


# --- sizes and counts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_number_that_stands_for_many(place, content, kind):
    """In the optimizer's state it would be copied: 20 GB of one number in a file of 50 KB."""
    huge = torch.zeros(1, dtype=kind).expand(10**10)
    for state in ({"momentum_buffer": huge}, [huge], {"a": [{"b": (huge,)}]}):
        path = place.write(plant(content, ("optimizer_states", 0, "state", 0), state))
        assert_fails(lambda path=path: read_checkpoint(path), "claims to hold more than it has")


def test_shared_values_are_no_attack(tmp_path):
    one = torch.zeros(10**6)
    content = {"a": one, "b": one, "c": one.view(1000, 1000), "d": torch.zeros(1).expand(1000)}
    torch.save(content, tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt").keys() == content.keys()


@pytest.mark.parametrize("count", [-1, -(10**9), float("nan"), -0.5, MOST_COUNTED + 1, float("inf")])
def test_a_count_that_is_none(place, content, capfd, count):
    """From minus a thousand million epochs on a run would not end."""
    at = ("loops", "fit_loop", "epoch_progress", "current", "processed")
    assert_fails(lambda: check_counts(plant(content, at, count)["loops"], "it"), "it is damaged: its loops have")
    check_counts(content["loops"], "it")
    if count == -1:
        code, output = resume(place, plant(content, at, count), capfd)
        assert (code, output.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("callbacks", "EarlyStopping"), {"stopping_reason": 99}),
        (("callbacks", "EarlyStopping"), {"stopping_reason": "a"}),
        (("callbacks",), [1, 2]),
        (("callbacks", "Timer"), 7),
        (("loops",), None),
        (("loops", "fit_loop"), 3),
        (("global_step",), None),
        (("global_step",), {}),
    ],
)
def test_states_that_make_no_sense(place, content, at, value):
    """A line that says so, and no error of Python's."""
    path = place.write(plant(content, at, value))
    config = {
        **content["config"],
        "trainer": {**content["config"]["trainer"], "max_time": "00:01:00:00", "max_steps": 9},
    }
    assert_fails(lambda: place_of(path, place.run, config), "last.ckpt is damaged: ")


@pytest.mark.parametrize("devices", [5000, "5000", "9" * 30])
def test_more_processes_than_processors(content, devices):
    """trainer.devices=5000 of strategy=ddp would start so many; it is said again by whom it is known to."""
    config = plant(content["config"], ("trainer", "devices"), devices)
    known = Known([CONFIGS])
    assert_fails(
        lambda: taken(config, known, [], "it"), "trainer.devices=", "more processes than", "++trainer.devices="
    )
    assert taken(config, known, ["trainer.devices"], "it")["trainer"]["devices"] == devices
    for fine in (1, os.cpu_count(), "auto", "-1", [0, 1]):
        assert taken(plant(config, ("trainer", "devices"), fine), known, [], "it")["trainer"]["devices"] == fine


# --- control characters -----------------------------------------------------------------------------------------------


def test_a_warning_of_a_run_has_no_control_characters(capsys):
    with as_command(), warnings.catch_warnings():
        shown = warnings.formatwarning("a\x1b[2J\u202eb", UserWarning, "x.py", 1)
    assert shown == "warning: a\\x1b[2J\\u202eb\n"


# --- sizes in a card --------------------------------------------------------------------------------------------------

PARITY = ("parity", 100, 2, None, 2, "last")


@pytest.mark.parametrize(
    "sizes", [{"test_size": 10**9}, {"train_size": 10**12}, {"val_size": 10**12}, {"steps": 10**6, "test_size": 1}]
)
def test_examples_that_no_memory_holds(sizes):
    """Before any is drawn."""
    names = ("name", "steps", "vocab_size", "in_features", "num_classes", "read")
    config: dict[str, Any] = dict(zip(names, PARITY, strict=True))
    assert_fails(lambda: SyntheticData(**{**config, **sizes}), "is not valid: at most")
    SyntheticData(**config)


def test_more_context_than_text():
    """A card's data.eval_context of 10^9 tokens takes no memory."""
    tokens = torch.arange(50)
    whole, huge = Evaluation(tokens, 4, 16, 49), Evaluation(tokens, 4, 16, 10**12)
    assert [batch[0].shape for batch in huge] == [batch[0].shape for batch in whole]
    assert all(
        torch.equal(a, b)
        for one, other in zip(huge, whole, strict=True)
        for a, b in zip(one[:2], other[:2], strict=True)
    )


def test_samples_that_no_memory_holds():
    """The size of a PixelCNN's images is not in its weights."""
    with torch.device("meta"):
        model = PixelCNN(channels=2, depth=1, image_size=4000)
    assert_fails(lambda: draw(model, 10**5), "images of this model take", "more than half of this machine's memory")
