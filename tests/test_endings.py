"""How runs end: whatever the rhythm of validation and whatever breaks, weights and metrics are where they belong."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from lightning import Callback

from tests.test_train import LEAN, QUIET
from zoo.callbacks import classes
from zoo.pretrained.reading import read_checkpoint

S = (*QUIET, "model=linear", "data.batch_size=100", "hydra.run.dir=run")  # 5 updates an epoch


def state(name: str, folder: str = "run") -> dict:
    return read_checkpoint(Path(folder) / "checkpoints" / f"{name}.ckpt")


def metrics(folder: str = "run") -> dict[str, float]:
    return json.loads((Path(folder) / "metrics.json").read_text())


# --- the last update is in last.ckpt ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "updates", "validated"),
    [
        (("trainer.max_epochs=6", "trainer.check_val_every_n_epoch=4"), 30, 20),
        (("trainer.max_epochs=2", "trainer.check_val_every_n_epoch=4"), 10, None),
        (("trainer.max_epochs=2", "trainer.val_check_interval=3"), 10, 8),
        (("trainer.max_epochs=-1", "trainer.max_steps=7"), 7, 5),
        (("trainer.max_epochs=2", "trainer.limit_val_batches=0"), 10, None),
        (("trainer.max_epochs=2", "callbacks.last.every_n_epochs=9"), 10, 10),
        (
            ("trainer.max_epochs=2", "callbacks.last.every_n_epochs=null", "callbacks.last.every_n_train_steps=4"),
            10, 10,
        ),
        (("trainer.max_epochs=2", "trainer.limit_train_batches=3", "trainer.accumulate_grad_batches=2"), 4, 4),
    ],
)  # fmt: skip
def test_whatever_the_rhythm(run_train, overrides, updates, validated):
    """And with select=last it is what is tested; best is of the last validation that was better, if there was one."""
    code, output = run_train(*S, *overrides, "select=last", "callbacks.best.save_top_k=1", "callbacks.best.mode=max")
    assert code == 0, output
    assert state("last")["global_step"] == updates
    assert state("last")["card"]["metrics"].keys() >= {"accuracy", "loss"}
    assert Path("run/checkpoints/best.ckpt").exists() == (validated is not None)
    if validated:
        assert state("best")["global_step"] <= validated


def test_the_last_weights_stand_in_for_the_best(run_train):
    """A run that never validated says so, and tests what it has."""
    code, output = run_train(*S, "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=4")
    assert code == 0, output
    assert "no best.ckpt was written, as nothing was validated: the last weights are used" in output
    assert metrics()["test/accuracy"] == pytest.approx(state("last")["card"]["metrics"]["accuracy"])


@pytest.mark.parametrize("nothing", ["limit_train_batches=0", "max_epochs=0", "max_steps=0"])
def test_a_run_without_an_update_is_an_error(run_train, nothing):
    code, output = run_train(*S, f"trainer.{nothing}")
    assert code == 1
    assert f"trainer.{nothing} leaves nothing to train" in output


# --- averages and constraints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("average", ["ema", "lookahead"])
def test_averages_are_of_constrained_weights(run_train, average):
    """What is validated, saved and tested keeps the limit of max-norm: it is applied within the update."""
    overrides = ("model=mlp", "model.hidden=[16]", "task.max_norm=0.3", f"callbacks=[default,{average}]")
    code, output = run_train(*S, *overrides, "trainer.max_epochs=2", "optimizer.lr=0.5")
    assert code == 0, output
    for name in ("best", "last"):
        weight = state(name)["state_dict"]["model.layers.fc1.weight"]
        assert weight.norm(dim=1).max() <= 0.3 + 1e-5


def test_without_an_average_the_trained_weights_are_saved(run_train):
    """Until ``update_starting_at_step`` an average is none: not the initial weights, which nobody trained."""
    code, output = run_train(*S, "callbacks=[default,ema]", "+callbacks.ema.update_starting_at_step=10000",
                             "trainer.max_epochs=2")  # fmt: skip
    assert code == 0, output
    content = state("last")
    assert torch.equal(content["state_dict"]["model.head.weight"], content["current_model_state"]["model.head.weight"])
    assert metrics()["test/accuracy"] > 0.5


# --- what breaks ------------------------------------------------------------------------------------------------------


class Spoilt(classes.ConfusionMatrix):
    def show(self, *_):
        assert Path("run/metrics.json").exists(), "metrics are written before any picture is drawn"
        raise ValueError("no ink")


def test_a_picture_ends_no_run(run_train):
    """It is a warning, and the metrics are there before it."""
    settings = ("model=linear", "debug=fast", "callbacks.progress=null", "hydra.run.dir=run")
    with pytest.warns(UserWarning, match=r"the picture of Spoilt cannot be drawn \(no ink\); the run goes on"):
        code, output = run_train(*settings, "callbacks.confusion._target_=tests.test_endings.Spoilt")
    assert code == 0, output
    assert "accuracy" in output
    assert metrics()["test/accuracy"] >= 0


def test_a_game_that_nothing_measures(run_train):
    """``task.judge=null`` measures nothing, and ends well."""
    code, output = run_train(
        "model=gan", "model.hidden=[16]", "model.latent=4", "task=adversarial", "task.judge=null", "data.mean=[0.0]",
        "data.std=[1.0]", "debug=fast", "task.smoothing=0.1", "callbacks.progress=null", "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, output
    assert metrics() == {}


def full_disk(*_):
    raise OSError(28, "No space left on device", "events.out")


class FullDisk(Callback):
    """From the second epoch on, TensorBoard cannot write."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            writer = trainer.logger.experiment._get_file_writer().event_writer.writer
            writer._general_file_writer.write = full_disk


def test_curves_end_no_run(run_train, monkeypatch):
    """A full disk costs the curves, which is said once."""
    monkeypatch.setattr("threading.excepthook", lambda _: None)  # pytest's own, of the writer's thread
    settings = ("model=linear", "trainer.log_every_n_steps=1", "callbacks.progress=null", "hydra.run.dir=run")
    more = (
        "trainer.max_epochs=3",
        "+logger.tensorboard.flush_secs=0",
        "+callbacks.full._target_=tests.test_endings.FullDisk",
    )
    with pytest.warns(UserWarning, match="curves cannot be written any more .*No space left.* goes on without") as said:
        code, output = run_train(*settings, *more)
    assert code == 0, output
    assert len([w for w in said if "curves cannot" in str(w.message)]) == 1
    assert state("last")["global_step"] == 12
    assert metrics()["test/accuracy"] > 0


@pytest.mark.filterwarnings("ignore:the test metrics could not be noted")
def test_one_folder_for_what_cannot_be_written(run_train, monkeypatch, tmp_path):
    """Best and last go there together, with the best of before, so that a run that goes on from there knows it."""
    real = torch.save
    written = []

    def full(content, file):
        written.append(file.name)
        if ".ckpt" in file.name and "run" in Path(file.name).parts and len(written) > 2:
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = (*S, "trainer.max_epochs=3", "optimizer.lr=1.0", "scheduler=none")
    with pytest.warns(UserWarning, match="training goes on, the checkpoint is in"):
        _, output = run_train(*settings)
    assert "accuracy" in output  # shown, where it cannot be written
    (refuge,) = tmp_path.glob("zoo-rescue-*/checkpoints")
    assert {path.name for path in refuge.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert read_checkpoint(refuge / "last.ckpt")["global_step"] == 15


def test_two_runs_in_one_folder(run_train):
    """The second one says that the first is there; and a finished run is not written over by a new one."""
    Path("run").mkdir()
    with FileLock("run/.lock"):
        code, output = run_train(*S, "debug=fast")
    assert code == 1
    assert "another run is writing to " in output
    assert run_train(*S, "debug=fast")[0] == 0
    before = state("last")["card"]
    code, output = run_train(*S, "debug=fast")
    assert code == 1
    assert "holds a run already: resume=" in output
    assert state("last")["card"] == before


def test_what_a_killed_run_left_half_written_is_removed(run_train):
    assert run_train(*S, "debug=fast")[0] == 0
    for part in ("run/checkpoints/.last.ckpt.123", "run/.metrics.json.123"):
        Path(part).write_bytes(b"half")
    assert run_train("resume=run", "trainer.max_epochs=2")[0] == 0
    assert not [*Path("run").glob("checkpoints/.*"), *Path("run").glob(".metrics*")]


def test_an_empty_resume(run_train):
    code, output = run_train(*S, "resume=")
    assert code == 1
    assert "resume= is empty; give a checkpoint, a run's folder, or last" in output


class Terminate(Callback):
    """SIGTERM at the start of the first test."""

    armed = True

    def on_test_start(self, trainer, pl_module):
        if Terminate.armed:
            Terminate.armed = False
            os.kill(os.getpid(), signal.SIGTERM)


END = "++callbacks.end._target_=tests.test_endings.Terminate"


def test_sigterm_in_the_test(run_train):
    """It says how the test is run again, and that is enough to run it."""
    code, output = run_train(*S, "debug=fast", END)
    assert code == 130, output
    assert "stopped during the test; to run it again: " in output
    code, output = run_train("resume=run", END)
    assert code == 0, output
    assert metrics()["test/accuracy"] >= 0


def test_finished_runs_say_so(run_train):
    """Of every way to end, and which override goes on; a larger patience of early stopping is taken."""
    early = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.min_delta=9")
    ends = {
        ("trainer.max_epochs=1",): "after 1 epochs; to go on, set trainer.max_epochs higher",
        ("trainer.max_epochs=-1", "trainer.max_steps=3"): "after 3 updates; to go on, set trainer.max_steps higher",
        (*early, "callbacks.early_stopping.patience=1"): "to go on, set callbacks.early_stopping.patience",
        ("trainer.max_time=00:00:00:01", "trainer.max_epochs=-1", "scheduler=none"): "set trainer.max_time longer",
    }  # fmt: skip
    for i, (overrides, words) in enumerate(ends.items()):
        settings = (*LEAN, f"hydra.run.dir=run{i}", *overrides)
        code, output = run_train(*settings)
        assert code == 0, output
        code, output = run_train(f"resume=run{i}")
        assert code == 1
        assert "this run is finished, " in output
        assert words in output
    assert state("last", "run2")["global_step"] == 10
    code, output = run_train("resume=run2", "++callbacks.early_stopping.patience=2")
    assert code == 0, output
    assert state("last", "run2")["global_step"] == 15


def test_a_longer_run_by_steps_goes_on_within_its_epoch(run_train, monkeypatch, tmp_path):
    """A run that max_steps ended in mid-epoch and that is made longer is the longer run, curves included."""
    from tests.test_resume_table import curves as shown

    settings = ("model=linear", "data.batch_size=100", "callbacks.progress=null", "scheduler=none", "test=false")
    settings = (*settings, "trainer.log_every_n_steps=1", "trainer.max_epochs=-1", "hydra.run.dir=run")
    for folder, first in (("whole", 12), ("longer", 7)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert run_train(*settings, f"trainer.max_steps={first}")[0] == 0
    code, output = run_train("resume=run", "trainer.max_steps=12")
    assert code == 0, output
    a, b = (state("last", str(tmp_path / folder / "run")) for folder in ("whole", "longer"))
    assert torch.equal(a["state_dict"]["model.head.weight"], b["state_dict"]["model.head.weight"])
    assert a["epoch"] == b["epoch"]
    a, b = (shown(tmp_path / folder / "run") for folder in ("whole", "longer"))
    assert a["train/loss"] == b["train/loss"]
    assert a["lr-SGD"] == b["lr-SGD"]


def test_the_step_of_pictures_is_that_of_the_curves(run_train):
    from tests.test_resume_table import curves as shown

    settings = ("model=linear", "data.batch_size=100", "callbacks.progress=null", "hydra.run.dir=run")
    assert run_train(*settings, "trainer.max_epochs=2", "trainer.log_every_n_steps=1")[0] == 0
    found = shown(Path("run"))
    assert [step for step, _ in found["val/accuracy"]] == [4, 9]
    assert [step for step, _ in found["kernels/first_layer"]] == [4, 9]
    assert found["test/accuracy"][0][0] == found["test/confusion_matrix"][0][0] == 10
