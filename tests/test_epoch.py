"""The shorter way through a training batch ends as Lightning's own epoch, to the last bit."""

from typing import Any

import pytest
from lightning import Callback, Trainer

from tests.test_resume import assert_same
from tests.test_resume_table import CASES, MAY_DIFFER, assert_same_run
from tests.test_task import task_for
from zoo.pretrained.reading import read_checkpoint
from zoo.run import epoch
from zoo.run.epoch import Epoch, shorten


@pytest.fixture
def run(run_train, monkeypatch, tmp_path):
    """Train in a folder: (its name, overrides) -> exit code and output."""

    def call(folder: str, *overrides: str) -> tuple[int, str]:
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        return run_train(*overrides)

    return call


@pytest.mark.parametrize("case", ["ema", "lookahead", "mixup", "lbfgs", "val_within", "language", "reconstruct"])
def test_it_ends_as_lightnings_own(run, monkeypatch, tmp_path, case):
    """Weights, averages, optimizer, schedule, counts of progress, metrics and curves."""
    short = []
    advance = Epoch.update
    monkeypatch.setattr(Epoch, "update", lambda self, *a: (short.append(1), advance(self, *a))[1])
    settings = (*CASES[case], "hydra.run.dir=run", "trainer.max_epochs=2", "trainer.gradient_clip_val=0.5")
    assert run("ours", *settings)[0] == 0
    assert short
    taken = len(short)
    monkeypatch.setattr(epoch, "shorten", lambda trainer, task: None)
    assert run("lightnings", *settings)[0] == 0
    assert len(short) == taken
    assert_same_run(tmp_path / "lightnings" / "run", tmp_path / "ours" / "run")
    a, b = (read_checkpoint(tmp_path / way / "run" / "checkpoints" / "last.ckpt") for way in ("lightnings", "ours"))
    assert "loops" in MAY_DIFFER  # of runs that were resumed, not of these
    assert_same(a["loops"], b["loops"], "loops")


@pytest.mark.parametrize("settings", ["trainer.accumulate_grad_batches=2", "trainer.profiler=simple"])
def test_what_is_not_usual_takes_lightnings_way(run, monkeypatch, settings):
    monkeypatch.setattr(Epoch, "update", lambda self, *a: pytest.fail("the shorter way was taken"))
    assert run("run", *CASES["mixup"], "trainer.max_epochs=1", settings)[0] == 0


class Counting(Callback):
    """Counts the batches that have begun; it overrides no other hook."""

    def __init__(self) -> None:
        self.begun = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun += 1


def test_hooks_that_nobody_overrides_are_not_called():
    """Lightning skips what is not callable; an overridden hook of a batch and all others are as they were."""
    callback, idle = Counting(), Callback()
    task = task_for()
    trainer = Trainer(callbacks=[callback, idle], logger=False, accelerator="cpu")
    shorten(trainer, task)
    assert callable(callback.on_train_batch_start)
    assert callback.on_train_batch_end is None
    assert idle.on_train_batch_start is None
    assert callable(idle.on_train_epoch_end)
    assert task.on_before_backward is None
    assert callable(task.optimizer_step)
