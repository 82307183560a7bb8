"""Stop and resume: n + m steps equal n, stop, m; nothing half-written, nothing lost."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning import Callback

from tests.conftest import some
from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint
from zoo.run.atomic import AtomicCheckpointIO, save_atomically

SETTINGS = (
    "callbacks=[default,ema]", "callbacks.progress=null", "callbacks.graph=null", "callbacks.projector=null",
    "callbacks.confusion=null", "callbacks.mistakes=null", "callbacks.kernels=null", "model=mlp",
    "model.hidden=[16]", "model.dropout=0.3", "model.batch_norm=true", "data.augment.shift=2", "data.batch_size=64",
    "trainer.log_every_n_steps=2", "seed=3", "trainer.max_epochs=3",
)  # fmt: skip
STOP = "++callbacks.stop._target_=tests.test_resume.StopAt"  # said again to resume: it is no part of the zoo
STEPS = 24  # 500 training images in batches of 64: 8 an epoch


class StopAt(Callback):
    """Sends this process Ctrl-C in the middle of an update, or crashes there."""

    step = -1
    crash = False

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == StopAt.step and StopAt.crash:
            raise RuntimeError("crash")
        if trainer.global_step == StopAt.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def _no_stop():
    StopAt.step, StopAt.crash = -1, False


def assert_same_end(a: dict, b: dict) -> None:
    """Two final checkpoints hold the same training."""
    assert a["global_step"] == b["global_step"] == STEPS
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "random"):
        assert a[key] or key == "averaging_state", f"{key} is compared, so it must be there"
        assert_same(a[key], b[key], key)
    assert_same(a["ImageData"], b["ImageData"], "data order")
    assert_same(a["card"]["metrics"], b["card"]["metrics"], "metrics")


def last(folder: Path) -> dict:
    (path,) = folder.glob("logs/*/*/checkpoints/last.ckpt")
    return read_checkpoint(path)


def assert_same(a, b, where=""):
    if torch.is_tensor(a):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, where


@pytest.mark.parametrize("step", some([2, 7, 8, 12, 15], 2, 7, 8), ids=lambda s: f"after_{s}")
def test_resume_is_exact(run_train, monkeypatch, tmp_path, step):
    """Stopped mid-epoch, in an epoch's last batch (7, 15) or its first (8): the rest equals an unbroken run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    monkeypatch.chdir(whole)
    assert run_train(*SETTINGS)[0] == 0

    monkeypatch.chdir(broken)
    StopAt.step = step
    code, output = run_train(*SETTINGS, STOP)
    assert code == 130
    assert "resume=" in output
    stopped = last(broken)["global_step"]
    assert step < stopped <= step + 2
    StopAt.step = -1
    code, output = run_train("resume=last", STOP)
    assert code == 0, output
    assert_same_end(last(whole), last(broken))


@pytest.mark.parametrize(("step", "schedule"), [(10, []), (16, ["scheduler=exponential"])])
def test_resume_after_a_crash_is_exact(run_train, monkeypatch, tmp_path, step, schedule):
    """Whatever ends a run, it goes on from the end of the last whole epoch as if nothing had been."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    monkeypatch.chdir(whole)
    assert run_train(*SETTINGS, *schedule)[0] == 0
    monkeypatch.chdir(broken)
    StopAt.step, StopAt.crash = step, True
    assert run_train(*SETTINGS, *schedule, STOP)[0] == 1
    assert last(broken)["global_step"] == step // 8 * 8
    StopAt.step = -1
    assert run_train("resume=last", STOP)[0] == 0
    assert_same_end(last(whole), last(broken))


@pytest.mark.parametrize("extra", [[], ["callbacks.last=null"], ["scheduler=exponential"]])
def test_stop_with_one_batch_an_epoch(run_train, monkeypatch, tmp_path, extra):
    """Full-batch gradient descent stops too, between two epochs, whether or not every epoch writes a checkpoint."""
    settings = (*SETTINGS, "data.batch_size=full", *extra)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    code, output = run_train(*settings)
    assert code == 0, output
    monkeypatch.chdir(tmp_path)
    StopAt.step = 1
    assert run_train(*settings, STOP)[0] == 130
    assert last(tmp_path)["global_step"] == 2
    StopAt.step = -1
    assert run_train("resume=last", STOP)[0] == 0
    (tested,) = tmp_path.glob("logs/*/*/metrics.json")
    (expected,) = tmp_path.glob("whole/logs/*/*/metrics.json")
    assert tested.read_text() == expected.read_text()


def test_metrics_and_curves_continue_in_the_same_run(run_train, monkeypatch, tmp_path):
    """A resumed epoch logs the training accuracy of the whole epoch, in the same folder, with no step twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        StopAt.step = 11 if name == "broken" else -1
        run_train(*SETTINGS, STOP)
        if name == "broken":
            StopAt.step = -1
            assert run_train("resume=last", STOP)[0] == 0
        (run,) = (tmp_path / name).glob("logs/*/*")
        events = EventAccumulator(str(run)).Reload()
        curves.append(
            {
                tag: [(e.step, e.value) for e in events.Scalars(tag)]
                for tag in ("train/loss", "train/accuracy", "val/accuracy", "weight_norm")
            }
        )
    assert curves[0] == curves[1]


def test_atomic_save_keeps_the_old_file(tmp_path, monkeypatch):
    """A write that fails half-way, as kill -9 would leave it, never touches the file that is there."""
    path = tmp_path / "last.ckpt"
    save_atomically({"step": 1}, path)

    def half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        save_atomically({"step": 2}, path)
    monkeypatch.undo()
    assert read_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_kill_while_writing_leaves_a_whole_last(tmp_path, command):
    """A real kill -9 in the middle of writing."""
    script = f"""
import os, signal, torch
from pathlib import Path
from zoo.run.atomic import save_atomically
path = Path({str(tmp_path / "last.ckpt")!r})
save_atomically({{"step": 1}}, path)
whole = torch.save
def killed(content, file):
    whole(content, file)
    file.flush()
    file.truncate(100)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = killed
save_atomically({{"step": 2}}, path)
"""
    assert command("-c", script).returncode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / "last.ckpt") == {"step": 1}


def test_full_disk_rescues_the_checkpoint(tmp_path, monkeypatch):
    """Where the place cannot be written, the checkpoint goes elsewhere with a warning, and the old one is kept."""
    io, path = AtomicCheckpointIO(), tmp_path / "run" / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    real = torch.save

    def full(content, file):
        if Path(os.readlink(f"/proc/self/fd/{file.fileno()}")).is_relative_to(tmp_path / "run"):
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.warns(UserWarning, match="training goes on"):
        io.save_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 1}
    assert read_checkpoint(io.rescued[str(path)]) == {"step": 2}
    monkeypatch.setattr(torch, "save", lambda content, file: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ZooError, match=r"the last good one is kept; .* resume="):
        io.save_checkpoint({"step": 3}, path)
    assert read_checkpoint(path) == {"step": 1}


def test_resume_errors(run_train, tmp_path):
    """What cannot be resumed is said in a line."""
    code, output = run_train("resume=last")
    assert (code, output.count("\n")) == (1, 1)
    assert "no checkpoint under logs/" in output
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    code, output = run_train("resume=notes.txt")
    assert code == 1
    assert "notes.txt is not a checkpoint" in output
    code, output = run_train("resume=nowhere.ckpt")
    assert code == 1
    assert "there is no such checkpoint" in output


def test_resume_does_not_run_what_a_checkpoint_names(run_train, tmp_path):
    """The config in a stranger's checkpoint may name the zoo's and Lightning's parts, and nothing else."""
    assert run_train("debug=fast", "model=linear")[0] == 0
    (path,) = tmp_path.glob("logs/*/*/checkpoints/last.ckpt")
    content = read_checkpoint(path)
    content["config"]["callbacks"]["extra"] = {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}
    torch.save(content, tmp_path / "foreign.ckpt")
    code, output = run_train("resume=foreign.ckpt", "trainer.max_epochs=2")
    assert code == 1
    assert "foreign.ckpt asks for callbacks.extra._target_=os.mkdir" in output
    assert not (tmp_path / "ran").exists()


def test_overrides_are_read_against_the_runs_own_config(run_train, tmp_path):
    """The default config has no early stopping; the resumed run has."""
    quick = [word.replace("callbacks=[default,ema]", "callbacks=[default,early_stopping]") for word in SETTINGS]
    code, output = run_train(*quick, "trainer.max_epochs=1")
    assert code == 0, output
    (folder,) = tmp_path.glob("logs/*/*")
    code, output = run_train(f"resume={folder}", "trainer.max_epochs=2", "callbacks.early_stoping.patience=4")
    assert code == 1
    assert "did you mean callbacks.early_stopping?" in output
    code, output = run_train(f"resume={folder}", "trainer.max_epochs=2", "callbacks.early_stopping.patience=4")
    assert code == 0, output
    assert last(tmp_path)["config"]["callbacks"]["early_stopping"]["patience"] == 4
    code, output = run_train(f"resume={folder}", "trainer.max_epochs=3", "model.dropuot=0.1")
    assert code == 1
    assert "dropuot" in output
    assert "dropout" in output
