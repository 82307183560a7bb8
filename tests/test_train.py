"""The training command end to end, on toy data: overrides, regularisation, sweeps, stopping, mishaps."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback
from safetensors.torch import save_file

from tests.conftest import REPO
from zoo.cli import app
from zoo.config.checks import choices
from zoo.data import sources
from zoo.pretrained.reading import read_checkpoint
from zoo.run import sweep

QUIET = ("callbacks.progress=null", "logger=none")
LEAN = (*QUIET, "test=false", "model=linear", "data.batch_size=100")
FAST = (*LEAN, "debug=fast")


LOAD = sources.load  # before the toys take its place


class Mishap(Callback):
    """Does something unkind at the start of an epoch."""

    def __init__(self, epoch: int = 1, delete: str = "", kill: int = 0):
        self.epoch, self.delete, self.kill = epoch, delete, kill

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            if self.delete:
                shutil.rmtree(self.delete)
            if self.kill:
                os.kill(os.getpid(), self.kill)


def mishap(**what) -> list[str]:
    return [
        "+callbacks.mishap._target_=tests.test_train.Mishap", *(f"+callbacks.mishap.{k}={v}" for k, v in what.items())
    ]  # fmt: skip


def run_folder(folder: Path) -> Path:
    (run,) = folder.glob("logs/*/*")
    return run


def checkpoint(folder: Path, name: str = "last") -> dict:
    return read_checkpoint(run_folder(folder) / "checkpoints" / f"{name}.ckpt")


# --- what a run says and writes -----------------------------------------------------------------------------------


def test_overrides_of_every_kind(run_train, tmp_path):
    """The issue's own example, and what a finished run tells its user."""
    code, output = run_train(
        "model=mlp", "data=fashion_mnist", "optimizer=sgd", "scheduler=cosine", "model.dropout=0.5",
        "trainer.max_epochs=5", "seed=1", "model.hidden=[32]", "trainer.log_every_n_steps=2",
    )  # fmt: skip
    assert code == 0, output
    run = run_folder(tmp_path)
    assert run.parent.name == "mlp_fashion_mnist"
    assert "500 training, 100 validation, 200 test images; seed 1" in output
    assert "Warning" not in output
    for line in ("checkpoint   logs/", "watch        ", "predict      ", " accuracy ", " error "):
        assert line in output
    content = checkpoint(tmp_path, "best")
    config = content["config"]
    assert (config["model"]["dropout"], config["trainer"]["max_epochs"], config["seed"]) == (0.5, 5, 1)
    assert (config["optimizer"]["_target_"], config["scheduler"]["T_max"]) == ("torch.optim.SGD", "total_steps")
    metrics = json.loads((run / "metrics.json").read_text())
    assert content["card"]["metrics"] == {k.removeprefix("test/"): v for k, v in metrics.items() if "test/" in k}
    of_test = {"test/loss", "test/accuracy", "test/f1", "test/calibration_error"}
    assert set(metrics) == {*of_test, "val/loss", "val/accuracy"}
    assert content["card"]["classes"][0] == "T-shirt/top"
    assert checkpoint(tmp_path)["global_step"] == 20
    mode = (run / "checkpoints" / "last.ckpt").stat().st_mode
    assert mode & 0o777 == (run / "metrics.json").stat().st_mode & 0o777  # others may read it where they may the rest


def test_bar_fits_80_columns(run_train):
    """One line an epoch, with loss and accuracy of training and validation."""
    code, output = run_train(
        "logger=none", "test=false", "model=linear", "trainer.max_epochs=10", "trainer.log_every_n_steps=1"
    )
    assert code == 0
    lines = [line for line in output.splitlines() if line.startswith("epoch")]
    assert len(lines) == 10
    for number, line in enumerate(lines, 1):
        assert len(line) <= 80
        assert line.startswith(f"epoch {number}/10 ")
        assert all(f"{name}: " in line for name in ("loss", "acc", "val acc"))
    assert output.count("\n") < 20


def test_the_example_of_the_last_line_runs(run_train, capfd):
    """The predict line can be pasted."""
    _, output = run_train("model=linear", *QUIET, "trainer.max_epochs=1")
    (line,) = (line for line in output.splitlines() if line.startswith("predict"))
    app(line.split()[2:], standalone_mode=False)
    assert "example.png  " in capfd.readouterr().out


def test_same_seed_same_weights(run_train, monkeypatch, tmp_path):
    weights = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run_train(*LEAN, "model=mlp", "model.hidden=[8]", "model.dropout=0.5", "trainer.max_epochs=1", f"seed={seed}")
        weights.append(checkpoint(tmp_path / name)["state_dict"]["model.head.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --- choices ------------------------------------------------------------------------------------------------------


# one of each family, in its small size: depth is not what is tested here
LEARNERS = {
    "linear": [], "mlp": [], "lenet5": [], "lenet5_1998": ["task/loss=map", "optimizer.lr=0.002"],
    "alexnet_cifar": [], "cuda_convnet": ["optimizer.lr=0.003"], "cuda_convnet_11pct": ["optimizer.lr=0.003"],
    "resnet20": [], "resnet18": [], "googlenet_cifar": [], "speednet": ["optimizer.lr=0.5"],
}  # fmt: skip


LONG = (
    "resnet18",
    "resnet20",
    "googlenet_cifar",
    "speednet",
    "alexnet_cifar",
    "cuda_convnet",
    "cuda_convnet_11pct",
)  # a minute each


@pytest.mark.parametrize("model", [pytest.param(m, marks=pytest.mark.slow if m in LONG else ()) for m in LEARNERS])
def test_overfit_one_batch(run_train, tmp_path, model):
    """``debug=overfit``: a model that cannot learn one batch by heart has a bug."""
    code, output = run_train("debug=overfit", *QUIET, f"model={model}", "data.batch_size=32", *LEARNERS[model])
    assert code == 0, output
    assert checkpoint(tmp_path)["global_step"] == 100
    metrics = checkpoint(tmp_path)["state_dict"]
    assert metrics["train_accuracy.tp"].sum() / 32 > 0.98


@pytest.mark.parametrize("optimizer", sorted(set(choices("optimizer")) - {"sparseadam"}))
def test_every_optimizer_takes_two_steps(run_train, tmp_path, optimizer):
    extra = ["init.freeze=['*.bias']"] if optimizer == "muon" else []  # for matrices alone
    code, output = run_train(*FAST, f"optimizer={optimizer}", *extra)
    assert code == 0, output
    content = checkpoint(tmp_path)
    assert content["global_step"] == 2
    assert content["state_dict"]["model.head.weight"].isfinite().all()


@pytest.mark.parametrize("scheduler", choices("scheduler"))
def test_every_scheduler_takes_two_steps(run_train, tmp_path, scheduler):
    code, output = run_train(*FAST, f"scheduler={scheduler}")
    assert code == 0, output
    content = checkpoint(tmp_path)
    assert content["global_step"] == 2
    assert len(content["lr_schedulers"]) == (scheduler != "none")


def test_full_batch_is_gradient_descent(run_train, tmp_path):
    assert run_train(*LEAN, "data.batch_size=full", "trainer.max_epochs=3")[0] == 0
    assert checkpoint(tmp_path)["global_step"] == 3


def test_regularisation_together(run_train, tmp_path):
    """EMA, early stopping, clipping, label smoothing, decay, L1, L2, max-norm, dropout, batch norm, augmentation."""
    code, output = run_train(
        *QUIET, "callbacks=[default,ema,early_stopping]", "callbacks.early_stopping.patience=1", "model=mlp",
        "callbacks.early_stopping.min_delta=9", "trainer.gradient_clip_val=1", "task.loss.label_smoothing=0.1",
        "optimizer=adamw", "task.l1=1e-5", "task.l2=1e-4", "task.max_norm=2", "model.hidden=[16]", "model.dropout=0.2",
        "model.batch_norm=true", "data.augment.shift=2", "data.augment.rotate=5", "trainer.max_epochs=9",
    )  # fmt: skip
    assert code == 0, output
    content = checkpoint(tmp_path)
    assert content["epoch"] == 1  # nothing falls by 9
    assert not torch.equal(
        content["state_dict"]["model.head.weight"], content["current_model_state"]["model.head.weight"]
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp", "model.batch_norm=true", "model.hidden=[8]"),
        ("model=resnet18", "data=cifar10"),
        ("model=ladder", "task=semi", "data.unlabelled=8", "data.mean=[0.0]", "data.std=[1.0]"),
    ],
)
def test_batch_norm_of_one_example_is_told_before_the_run(run_train, tmp_path, overrides):
    code, output = run_train(*QUIET, *overrides, "data.batch_size=1")
    assert code == 1
    error = output.splitlines()[-1]
    assert error.startswith("error: a training batch would have one example, too few for this model")
    assert error.endswith("use more examples, and set data.batch_size (and data.unlabelled) to 2 or more")
    assert not list(tmp_path.glob("logs/*/*/checkpoints"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=lenet5", "model.batch_norm=true"),
        ("model=mlp", "model.hidden=[8]"),
        ("model=mlp", "model.batch_norm=true", "model.hidden=[8]", "init.freeze=[layers]"),
    ],
)
def test_batches_of_one_example_without_such_a_norm(run_train, overrides):
    """Of many pixels, none at all, or still: it learns."""
    code, output = run_train(*FAST, *overrides, "data.batch_size=1", "trainer.limit_train_batches=2")
    assert code == 0, output


def test_clipping_limits_the_update(run_train, tmp_path):
    """With SGD without momentum, no update is longer than lr × the clipped norm."""
    settings = (*FAST, "scheduler=none", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.lr=1")
    run_train(*settings, "trainer.gradient_clip_val=1e-6")
    clipped = checkpoint(tmp_path)["state_dict"]["model.head.weight"]
    shutil.rmtree(tmp_path / "logs")
    run_train(*settings, "optimizer.lr=0")
    still = checkpoint(tmp_path)["state_dict"]["model.head.weight"]
    assert 0 < (clipped - still).norm() < 3e-6


def test_select_and_val_size(run_train, tmp_path):
    """``select`` names the checkpoint that is tested; without validation that is the last."""
    run_train(*QUIET, "model=linear", "trainer.max_epochs=2", "select=last")
    assert checkpoint(tmp_path, "last")["card"]["metrics"].keys() >= {"accuracy", "f1"}
    assert "f1" not in checkpoint(tmp_path, "best")["card"]["metrics"]
    shutil.rmtree(tmp_path / "logs")
    code, output = run_train(*QUIET, "model=linear", "trainer.max_epochs=2", "data.val_size=0")
    assert code == 0, output
    assert "600 training, 0 validation" in output
    assert [p.name for p in (run_folder(tmp_path) / "checkpoints").iterdir()] == ["last.ckpt"]


def test_without_a_test(run_train, tmp_path):
    code, output = run_train(*LEAN, "trainer.max_epochs=1")
    assert code == 0
    assert "test metric" not in output
    metrics = json.loads((run_folder(tmp_path) / "metrics.json").read_text())
    assert set(metrics) == {"val/loss", "val/accuracy"}  # to choose by


def test_callbacks_can_all_be_left_out(run_train):
    """No checkpoints, no bar, no control: a bare training that still ends and is tested."""
    code, output = run_train("callbacks=[]", "model=linear", "debug=fast", "logger=none")
    assert code == 0, output
    assert "accuracy" in output
    assert run_train("trainer.enable_progress_bar=false", *FAST[2:], "logger=none")[0] == 0


def test_max_time_ends_a_run(run_train, tmp_path):
    """The timer that measures the training also ends it."""
    code, output = run_train(*LEAN, "trainer.max_time=00:00:00:01", "trainer.max_epochs=100000")
    assert code == 0, output
    assert 0 < checkpoint(tmp_path)["epoch"] < 1000


@pytest.mark.slow
def test_compile_is_one_switch(run_train, tmp_path):
    """Compiled or, where no compiler is found, warned and not."""
    code, output = run_train("model=linear", "data.batch_size=100", "debug=fast", "compile=true")  # with all pictures
    assert code == 0, output
    assert "model.head.weight" in checkpoint(tmp_path)["state_dict"]


def test_compile_falls_back_with_a_warning(run_train, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="training goes on without it"):
        assert run_train(*FAST, "compile=true")[0] == 0


# --- sweeps -------------------------------------------------------------------------------------------------------


def test_sweep_ends_with_one_table(run_train, tmp_path):
    code, output = run_train(
        "model=mlp", "-m", "model.hidden=[8]", "model.dropout=0,0.25,0.5", *QUIET, "debug=fast", "seed=3"
    )
    assert code == 0, output
    table = output[output.rindex("sweep-", 0, output.rindex("\ntable  ")) :]
    assert [value in table for value in (" 0 ", " 0.25 ", " 0.5 ", "accuracy", "model.dropout")] == [True] * 5
    assert "seed" not in table  # does not vary
    (file,) = tmp_path.glob("logs/*/sweep-*/sweep.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["model.dropout"] for row in rows] == ["0", "0.25", "0.5"]
    assert all(0 <= float(row[f"{part}/accuracy"]) <= 1 for row in rows for part in ("val", "test"))
    assert str(file.relative_to(tmp_path)) in "".join(output.split("\n"))


def test_a_failed_run_does_not_end_a_sweep(run_train, tmp_path):
    """It is reported, the others run, the table says so, and the exit code is 1."""
    code, output = run_train("-m", "data.val_size=100,600,200", *QUIET, "debug=fast", "model=linear")
    assert code == 1
    assert output.count("error: data.val_size=600") == 1
    (file,) = tmp_path.glob("logs/*/sweep-*/sweep.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [bool(row["test/accuracy"]) for row in rows] == [True, False, True]
    assert [row["failed"][:17] for row in rows] == ["", "data.val_size=600", ""]
    assert "failed" in output


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("optimizer.lr=0.1,0.2,-1", "model=mlp"), "error: optimizer.lr=-1 is not valid: at least 0 is expected"),
        (("seed=0,1", "optimizer.lr=abc"), "error: optimizer.lr=abc is not valid: a number is expected"),
        (("model=linear,mlp", "+model.hiden=[8]"), "error: model.hiden: "),
        (("trainer.max_epochs=range(-4,2)",), "error: trainer.max_epochs=-4 is not valid"),
        (("model.dropout=0,0.5", "model=mlp", "seed=0,-1"), "error: seed=-1 is not valid"),
    ],
)
def test_a_wrong_value_is_told_before_a_sweep(run_train, tmp_path, overrides, expected):
    """Whichever run it is of: no run starts, and nothing is written."""
    code, output = run_train("-m", *overrides, *QUIET, "debug=fast")
    assert code == 1
    assert expected in output
    assert output.count("\n") == 1, output
    assert not (tmp_path / "logs").exists()


def test_a_sweep_is_one_folder_whatever_it_varies(run_train, tmp_path):
    """Models and data, after which runs are named: one table with all runs, to choose by even without a test."""
    code, output = run_train("-m", "model=linear,mlp", "data=mnist,fashion_mnist", *QUIET, "debug=fast", "test=false")
    assert code == 0, output
    (file,) = tmp_path.glob("logs/**/sweep.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["model"], row["data"]) for row in rows] == [
        ("linear", "mnist"), ("linear", "fashion_mnist"), ("mlp", "mnist"), ("mlp", "fashion_mnist")
    ]  # fmt: skip
    assert all(0 <= float(row["val/accuracy"]) <= 1 for row in rows)
    assert "test/accuracy" not in rows[0]
    assert len(list(file.parent.glob("*/checkpoints/last.ckpt"))) == 4


def test_a_sweeps_seeds_are_repetitions(run_train, tmp_path):
    """Per setting the mean and the standard deviation over its runs that did not fail."""
    code, output = run_train("-m", "seed=1,2", "data.val_size=100,600", *QUIET, "debug=fast", "model=linear")
    assert code == 1
    (file,) = tmp_path.glob("logs/*/sweep-*/sweep.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    losses = [float(row["test/loss"]) for row in rows if row["test/loss"]]
    assert len(losses) == 2
    means = output[output.index("over seeds") :]
    a, b = losses
    assert f"{(a + b) / 2:.4f}"[:5] in means
    assert sweep.spread(losses) == f"{(a + b) / 2:.4f} ± {abs(a - b) / 2**0.5:.4f}"
    assert "0 of 2" in means


def test_ctrl_c_stops_a_sweep(run_train, tmp_path):
    code, output = run_train("-m", "seed=1,2,3", *LEAN, "trainer.max_epochs=3", *mishap(kill=signal.SIGINT))
    assert code == 130
    assert "resume=" in output
    assert len(list(tmp_path.glob("logs/*/sweep-*/*/checkpoints"))) == 1


# --- stopping and mishaps -----------------------------------------------------------------------------------------


def test_sigterm_stops_like_ctrl_c(run_train, tmp_path):
    code, output = run_train(*LEAN, "trainer.max_epochs=3", *mishap(kill=signal.SIGTERM))
    assert code == 130
    assert "stopping after this batch (again to stop at once)" in output
    assert f"resume={run_folder(tmp_path).relative_to(tmp_path)}/checkpoints/last.ckpt" in output
    assert 5 <= checkpoint(tmp_path)["global_step"] < 15


def test_resume_with_other_values(run_train, tmp_path):
    """A resumed run keeps its config, but for the single values of its command line."""
    assert run_train(*LEAN, "trainer.max_epochs=2", "seed=4")[0] == 0
    run = run_folder(tmp_path)
    code, output = run_train(f"resume={run}", "trainer.max_epochs=4", "task.l2=0.1")
    assert code == 0, output
    assert run_folder(tmp_path) == run
    content = checkpoint(tmp_path)
    assert content["global_step"] == 20
    config = content["config"]
    assert (config["trainer"]["max_epochs"], config["task"]["l2"], config["seed"]) == (4, 0.1, 4)
    assert config["model"]["hidden"] == []
    assert len(list(run.glob(".hydra*"))) == 2  # the first command's is kept
    code, output = run_train("resume=last", "model=mlp")
    assert code == 1
    assert "model=mlp: a resumed run keeps its model; override single values" in output
    code, output = run_train("resume=last", "optimizer.lr=0.1")
    assert code == 1
    assert "a resumed run keeps its optimizer and scheduler" in output
    code, output = run_train("resume=last", "trainer.max_epochs=6", "model.num_classes=12")
    assert code == 1
    assert re.search(r"a resumed run keeps its model's layers, and model\.\S+ was \(.*\) and would be ", output)
    code, output = run_train("resume=last", "model.dropuot=1")
    assert code == 1


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_a_longer_run_has_the_longer_schedule(run_train, tmp_path, scheduler):
    """A finished run that is resumed to be longer goes on at the rate that the longer run has there, and ends low."""
    run_train(*LEAN, f"scheduler={scheduler}", "trainer.max_epochs=2")
    code, output = run_train("resume=last", "trainer.max_epochs=3")
    assert code == 0, output
    first = checkpoint(tmp_path)
    shutil.rmtree(tmp_path / "logs")
    run_train(*LEAN, f"scheduler={scheduler}", "trainer.max_epochs=3")
    whole = checkpoint(tmp_path)
    assert first["global_step"] == whole["global_step"] == 15
    assert first["lr_schedulers"][0]["_last_lr"] == pytest.approx(whole["lr_schedulers"][0]["_last_lr"])
    rates = [c["optimizer_states"][0]["param_groups"][0]["lr"] for c in (first, whole)]
    assert rates[0] == pytest.approx(rates[1])


def test_resume_of_a_moved_run(run_train, tmp_path):
    """A run's folder can be renamed; the rest of the run is written into it."""
    run_train(*LEAN, "trainer.max_epochs=1")
    run_folder(tmp_path).rename(tmp_path / "moved")
    code, output = run_train("resume=moved", "trainer.max_epochs=2")
    assert code == 0, output
    assert read_checkpoint(tmp_path / "moved" / "checkpoints" / "last.ckpt")["global_step"] == 10
    assert not list(tmp_path.glob("logs/*/*/checkpoints"))


class Spoil(Callback):
    """Makes the weights NaN by an update at a step, as an infinite gradient would."""

    def __init__(self, step: int):
        self.step = step

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.model.head.weight[0, 0] = float("nan")


@pytest.mark.parametrize(("step", "named"), [(7, "at step 8"), (9, "after step 9")])
def test_nan_stops_and_keeps_the_last_good_checkpoint(run_train, tmp_path, step, named):
    """Step 9 is the last of an epoch: its checkpoint would be spoilt, so it is not written."""
    spoil = ("+callbacks.spoil._target_=tests.test_train.Spoil", f"+callbacks.spoil.step={step}")
    code, output = run_train(*LEAN, "trainer.max_epochs=4", *spoil)
    assert code == 1
    assert "head.weight are not finite" in output
    assert named in output
    assert "the last good checkpoint is " in output
    content = checkpoint(tmp_path)
    assert content["global_step"] == 5
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


def test_nan_names_step_and_layer(run_train):
    code, output = run_train(*QUIET, "model=lenet5", "optimizer.lr=1e6")
    assert code == 1
    (line,) = (line for line in output.splitlines() if "error" in line)
    assert "error: the loss is " in line
    assert " at step " in line
    assert "is not finite; no checkpoint had been written. Try a lower optimizer.lr" in line


def test_logs_deleted_mid_run(run_train, tmp_path):
    """Without a logger the run goes on, and its result is there."""
    code, output = run_train(*QUIET, "model=linear", "trainer.max_epochs=3", *mishap(delete="logs"))
    assert code == 0, output
    assert checkpoint(tmp_path, "last")["global_step"] == 12
    assert (run_folder(tmp_path) / "metrics.json").exists()


def test_data_deleted_mid_run(run_train, tmp_path, monkeypatch):
    """The set is read into memory once: the run ends, test included, as if nothing had been."""
    toys = sources.load("mnist")
    monkeypatch.setattr(sources, "load", LOAD)
    monkeypatch.setitem(sources.SOURCES, "mnist", sources.Source(tuple("0123456789"), "read_idx"))
    monkeypatch.setattr(sources, "EMBEDDED", tmp_path)
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    tensors = {key: tensor.to(torch.uint8).contiguous() for key, tensor in toys.items()}
    noted = {key: sources.sha256(tensor.numpy()) for key, tensor in tensors.items()}
    save_file(tensors, tmp_path / "data" / "prepared" / "mnist.safetensors", noted)
    settings = (*QUIET, "model=linear", "trainer.max_epochs=2", f"data.root={tmp_path / 'data'}")
    code, output = run_train(*settings, *mishap(delete=tmp_path / "data"))
    assert code == 0, output
    assert "accuracy" in output


def test_full_disk_rescues_checkpoints(run_train, tmp_path, monkeypatch):
    """Nothing can be written into the run's folder: training goes on, and the end says where the checkpoint is."""
    real = torch.save

    def full(content, file):
        if ".ckpt" in file.name and "logs" in file.name:
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.warns(UserWarning, match="training goes on, the checkpoint is in"):
        code, output = run_train(*QUIET, "model=linear", "trainer.max_epochs=2")
    assert code == 1
    assert "could not be written to" in output
    (rescued,) = tmp_path.glob("zoo-rescue-*/checkpoints/best.ckpt")
    assert str(rescued) in output
    assert "f1" in read_checkpoint(rescued)["card"]["metrics"]


TOY = """
import sys
sys.path.insert(0, {repo!r})
from tests.conftest import toy
from zoo.data import sources
train, test = toy(600), toy(200)
names = ("train_images", "train_labels", "test_images", "test_labels")
sources.load = lambda name, root=None: dict(zip(names, (*train, *test)))
from zoo.train import main
main()
"""


@pytest.fixture
def start(tmp_path):
    """Start a real training process on toy data, and wait for its first checkpoint."""
    (tmp_path / "train.py").write_text(TOY.format(repo=str(REPO)))
    processes = []

    def call(*overrides: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "train.py", *LEAN, "data.val_size=100", "trainer.max_epochs=100000", *overrides],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        processes.append(process)
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("logs/**/last.ckpt")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    yield call
    for process in processes:
        process.kill()


@pytest.mark.slow
def test_ctrl_c_in_a_real_process(start, run_train, tmp_path):
    """One line says how to go on, and going on with it works."""
    process = start()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    (line,) = (line for line in output.splitlines() if "to go on" in line)
    assert line.startswith("stopped after update ")
    assert "Traceback" not in output
    step = checkpoint(tmp_path)["global_step"]
    assert f"update {step};" in line
    resumed = line.split()[-1]
    assert resumed.startswith("resume=")
    code, output = run_train(resumed, f"trainer.max_epochs={step // 5 + 2}")
    assert code == 0, output
    assert checkpoint(tmp_path)["global_step"] == (step // 5 + 2) * 5


# --- several processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True])
def test_two_processes_train_like_one(command, tmp_path, sweep):
    """``trainer=ddp``: the same weights as one process with the same global batch; each message once; and a sweep."""
    settings = (
        "model=mlp", "model.hidden=[16]", "data.labels_per_class=20", "data.batch_size=50", "data.val_size=100",
        "trainer.max_epochs=2", "trainer.accelerator=cpu", "callbacks.progress=null", "trainer.limit_test_batches=2",
    )  # fmt: skip
    weights = []
    for trainer in ("cpu", "ddp"):
        folder = tmp_path / trainer
        folder.mkdir()
        swept = ["-m", "seed=0,1"] if sweep and trainer == "ddp" else []
        done = command(str(REPO / "train.py"), *settings, f"trainer={trainer}", *swept, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("writing to") == 1 + bool(swept)
        assert done.stdout.count("test metric") == 1 + bool(swept)
        assert "Warning" not in done.stderr
        path = next(iter(sorted(folder.glob("logs/**/last.ckpt"))))
        content = read_checkpoint(path)
        assert content["global_step"] == 8
        weights.append(content["state_dict"])
        assert len(list(folder.glob("logs/**/events*"))) == (2 + 2 * bool(swept))
        assert len(list(folder.glob("logs/*/*"))) == 1  # no folders of the second process
    for name in weights[0]:
        if name.startswith("model."):
            torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5, msg=name)


def commands(folder: Path) -> list[str]:
    return sorted(read_checkpoint(path)["card"]["command"] for path in folder.glob("logs/**/last.ckpt"))


def test_a_card_says_the_command_of_its_own_run(run_train, tmp_path):
    """Of one run in a sweep, and of a resumed one, the command makes that run and no other."""
    common = ["model=linear", "debug=fast", "logger=none", "data.augment={shift:1}", "callbacks.progress=null"]
    assert run_train("-m", *common, "seed=0,1")[0] == 0
    made = commands(tmp_path)
    assert [c.rsplit("seed=")[-1].split()[0] for c in made] == ["0", "1"]
    assert all(c.startswith("python train.py ") and "'data.augment={shift:1}'" in c for c in made)
    (path,) = tmp_path.glob("logs/**/0/checkpoints/last.ckpt")
    assert run_train(f"resume={path}", "trainer.max_epochs=2")[0] == 0
    assert commands(tmp_path)[0] == f"{made[0]} trainer.max_epochs=2"


def test_a_model_without_a_head_or_a_graph(run_train, tmp_path):
    """What TensorBoard cannot show of a user's model is left out; the run is trained and tested."""
    (tmp_path / "headless.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.out = torch.nn.Linear(784, 10)\n"
        "    def forward(self, x):\n"
        "        return self.out(x.flatten(1))\n"
    )
    code, output = run_train("model=linear", "~model", "+model._target_=headless.Net", "debug=fast")
    assert code == 0, output
    assert "accuracy" in output


def test_a_run_leaves_nothing_behind(run_train):
    """In a sweep of many runs, none keeps its trainer and data alive, through a signal's handler for example."""
    import gc

    from zoo.data.images import ImageData

    def alive() -> set[int]:
        gc.collect()
        return {id(o) for o in gc.get_objects() if type(o) is ImageData}

    handler, left_by_others = signal.getsignal(signal.SIGTERM), alive()
    assert run_train(*FAST)[0] == 0
    assert signal.getsignal(signal.SIGTERM) is handler
    assert alive() <= left_by_others
