"""Several processes: two gloo processes on this machine train to the weights of one with the same global batch."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch import nn

from tests.conftest import REPO
from tests.test_resume import assert_same
from zoo.pretrained.reading import read_checkpoint

# shuffled, with momentum, clipping, and two groups of parameters; no layer looks at more than one example
SETTINGS = (
    "model=mlp", "model.hidden=[16]", "data.labels_per_class=20", "data.batch_size=50", "data.val_size=100",
    "optimizer.weight_decay=0.001", "trainer.gradient_clip_val=1", "trainer.max_epochs=2", "trainer.accelerator=cpu",
    "callbacks.progress=null", "trainer.limit_test_batches=2", "scheduler=none",
)  # fmt: skip
STEPS = 8  # 200 training images, two epochs
CALLBACKS = """
import os, signal
import torch
from lightning import Callback

class FullDisk(Callback):
    # nothing can be written into the run's folder after its first epoch
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            real = torch.save
            def save(content, file, **options):
                if "logs" in str(getattr(file, "name", "")):
                    raise OSError(28, "No space left on device")
                real(content, file, **options)
            torch.save = save

class Halt(Callback):
    def __init__(self, step=-1, rank=None):
        self.step, self.rank = step, rank

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            if trainer.global_rank == self.rank:
                raise RuntimeError(f"process {self.rank} has failed")
            if self.rank is None:
                os.kill(os.getpid(), signal.SIGINT)
"""


def run(folder: Path, *arguments: str, by: tuple[str, ...] = (sys.executable,), **environment: str):
    """The real command in a folder; returns what subprocess.run does."""
    folder.mkdir(exist_ok=True)
    (folder / "halt.py").write_text(CALLBACKS)
    return subprocess.run(
        [*by, str(REPO / "train.py"), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=500, env={**os.environ, **environment},
    )  # fmt: skip


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2")


def last(folder: Path) -> dict:
    (path,) = folder.glob("logs/*/*/checkpoints/last.ckpt")
    return read_checkpoint(path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """The last checkpoint of one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = run(folder, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return last(folder)


def assert_close(a: dict, b: dict) -> None:
    """Two checkpoints hold the same training but for rounding; also the optimizer's numbers of its parameters."""
    assert a["global_step"] == b["global_step"] == STEPS
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for name, value in a["state_dict"].items():
        if name.startswith("model."):
            assert type(b["state_dict"][name]) is torch.Tensor
            torch.testing.assert_close(value, b["state_dict"][name], rtol=1e-5, atol=1e-5, msg=name)
    for (_, saved), (_, other) in zip(momenta(a), momenta(b), strict=True):
        torch.testing.assert_close(saved, other, rtol=1e-5, atol=1e-5)


def momenta(content: dict) -> list[tuple[int, torch.Tensor]]:
    """The momentum of each parameter, in the order of the optimizer's groups, which is what loading goes by."""
    (optimizer,) = content["optimizer_states"]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    assert len(numbers) == 4
    return [(n, optimizer["state"][n]["momentum_buffer"]) for n in numbers]


def assert_one_run(done: subprocess.CompletedProcess, folder: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("writing to") == done.stdout.count("test metric") == 1
    assert "Warning" not in done.stderr
    assert len(list(folder.glob("logs/*/*"))) == 1  # no folder of the second process
    assert len(list(folder.glob("logs/*/*/.hydra*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_two_processes_train_like_one(alone, tmp_path, trainer):
    assert_one_run(run(tmp_path, *SETTINGS, f"trainer={trainer}"), tmp_path)
    assert_close(alone, last(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_torchrun(alone, tmp_path, trainer):
    """Processes that torchrun started share one folder."""
    assert_one_run(run(tmp_path, *SETTINGS, f"trainer={trainer}", "trainer.devices=2", by=TORCHRUN), tmp_path)
    assert_close(alone, last(tmp_path))


@pytest.mark.slow
def test_srun(alone, tmp_path):
    """Processes with the environment that srun gives them share one folder; there is no SLURM here to ask."""
    common = {
        "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_JOB_NAME": "zoo",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()),
    }  # fmt: skip
    command = [sys.executable, str(REPO / "train.py"), *SETTINGS, "trainer=ddp", "trainer.devices=2"]
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=500) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0].count("writing to") == 1
    assert outputs[1][0] == ""
    (folder,) = tmp_path.glob("logs/*/*")
    assert folder.name == "slurm-41.0"
    assert_close(alone, last(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_resume_is_exact(tmp_path, trainer):
    """Stopped in the middle of an epoch: weights, optimizer, metrics, and the random numbers of both processes."""
    settings = (
        *SETTINGS,
        f"trainer={trainer}",
        "model.dropout=0.3",
        "trainer.log_every_n_steps=1",
        "data.augment.shift=1",
    )
    halt = "++callbacks.halt._target_=halt.Halt"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole, *settings).returncode == 0
    stopped = run(broken, *settings, halt, "++callbacks.halt.step=5")
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.count("stopped after update 6; to go on") == 1
    done = run(broken, "resume=last", halt, "++callbacks.halt.step=-1")
    assert done.returncode == 0, done.stderr
    a, b = last(whole), last(broken)
    assert len(a["random"]) == 2
    assert not torch.equal(a["random"][0]["cpu"], a["random"][1]["cpu"])
    for key in ("state_dict", "optimizer_states", "random", "ImageData"):
        assert_same(a[key], b[key], key)


@pytest.mark.slow
def test_streams_of_text_read_on(tmp_path):
    """Each process goes on with the state of its own streams; of another number of processes they begin anew."""
    settings = (
        "data=shakespeare", "model=lstm", "task=language", "model.hidden=16", "data.batch_size=8", "data.seq_len=16",
        "trainer.max_epochs=1", "trainer.limit_train_batches=12", "trainer.limit_val_batches=2", "test=false",
        "trainer.accelerator=cpu", "scheduler=none", "callbacks.progress=null", "trainer=ddp",
        "trainer.log_every_n_steps=1",
    )  # fmt: skip
    halt = "++callbacks.halt._target_=halt.Halt"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(whole, *settings).returncode == 0
    stopped = run(broken, *settings, halt, "++callbacks.halt.step=5")
    assert stopped.returncode == 130, stopped.stderr
    states = [own["carried"] for own in last(broken)["random"]]
    assert states[0][0][0].shape == (4, 16)
    assert not torch.equal(states[0][0][0], states[1][0][0])
    alone = tmp_path / "alone"
    shutil.copytree(broken, alone)
    done = run(broken, "resume=last", halt, "++callbacks.halt.step=-1")
    assert done.returncode == 0, done.stderr
    for key in ("state_dict", "optimizer_states", "random", "TextData"):
        assert_same(last(whole)[key], last(broken)[key], key)
    one = ("trainer.strategy=auto", "trainer.devices=1", halt, "++callbacks.halt.step=-1")
    done = run(alone, "resume=last", *one)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_checkpoint_of_fsdp_is_an_ordinary_one(alone, tmp_path, command):
    """``zoo predict`` reads it, and one process goes on with it as with its own."""
    assert run(tmp_path, *SETTINGS, "trainer=fsdp", "trainer.max_epochs=1").returncode == 0
    (path,) = tmp_path.glob("logs/*/*/checkpoints/last.ckpt")
    predicted = command("-m", "zoo", "predict", str(path), str(path.parents[1] / "example.png"))
    assert predicted.returncode == 0, predicted.stderr
    more = ("trainer.strategy=auto", "trainer.devices=1", "trainer.max_epochs=2")
    done = run(tmp_path, "resume=last", *more)
    assert done.returncode == 0, done.stderr
    assert_close(alone, last(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("by", [(sys.executable,), TORCHRUN], ids=["ddp", "torchrun"])
def test_a_process_that_fails_ends_all(tmp_path, by):
    """It says why, in one line; the other does not say that it lost its peer."""
    halt = ("+callbacks.halt._target_=halt.Halt", "+callbacks.halt.step=2", "+callbacks.halt.rank=1")
    done = run(tmp_path, *SETTINGS, "trainer=ddp", "trainer.devices=2", *halt, by=by)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: RuntimeError: process 1 has failed"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_a_full_disk(alone, tmp_path, trainer):
    """The main process alone has written, and to another place: all test the weights that are there."""
    full = "+callbacks.full._target_=halt.FullDisk"
    done = run(tmp_path, *SETTINGS, f"trainer={trainer}", full, "select=last", TMPDIR=str(tmp_path))
    assert done.returncode == 1, done.stderr
    (rescued,) = tmp_path.glob("zoo-rescue-*/checkpoints/last.ckpt")
    assert done.stderr.count(f"it is in {rescued}: move it somewhere safe") == 1, done.stderr
    assert done.stdout.count("test metric") == 1
    assert_close(alone, read_checkpoint(rescued))


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 6])
def test_a_full_disk_when_it_stops(tmp_path, step):
    """All processes agree on whether last.ckpt is still to be written."""
    full = "+callbacks.full._target_=halt.FullDisk"
    halt = ("+callbacks.halt._target_=halt.Halt", f"+callbacks.halt.step={step}")
    done = run(tmp_path, *SETTINGS, "trainer=ddp", full, *halt, "trainer.log_every_n_steps=1", TMPDIR=str(tmp_path))
    assert done.returncode == 130, done.stderr
    (rescued,) = tmp_path.glob("zoo-rescue-*/checkpoints/last.ckpt")
    assert f"resume={os.path.relpath(rescued, tmp_path)}" in done.stderr
    assert read_checkpoint(rescued)["global_step"] == step + 1


@pytest.mark.slow
def test_what_fsdp_cannot_share_out_is_said(tmp_path):
    for setting, said in (("callbacks=[default,ema]", "callbacks=ema"), ("optimizer=adafactor", "use trainer=ddp")):
        extra = (*SETTINGS[:5], "trainer.accelerator=cpu", setting, "trainer=fsdp")
        done = run(tmp_path, *extra)
        assert done.returncode == 1
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "trainer=fsdp" in line
        assert said in line


def test_batch_norm_of_all_processes_is_for_gpus(run_train):
    code, output = run_train("trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=true")
    assert code == 1
    assert output == "error: trainer.sync_batchnorm=true: torch supports it on GPUs only; leave it at false\n"


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "linear", "mlp", "resnet20"])
def test_shares_of_models_compute_the_same(name):
    """Outputs and gradients of a model whose blocks are shared out are those of the whole one."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    import zoo
    from zoo.run.parallel import blocks

    model: nn.Module = zoo.create(name).eval()
    channels = 3 if name == "resnet20" else 1
    x = torch.randn(2, channels, 28, 28)
    whole = model(x)
    whole.sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        mesh = init_device_mesh("cpu", (1,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        shared = model(x)
        shared.sum().backward()
        torch.testing.assert_close(shared, whole)
        for n, p in model.named_parameters():
            if n in gradients:
                torch.testing.assert_close(p.grad.full_tensor(), gradients[n], msg=n)
    finally:
        distributed.destroy_process_group()


# --- sweeps on many machines ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_submitit_runs_a_sweep(tmp_path):
    """Each run in a job of its own; a failed one is in the table, and in the exit code."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ("-m", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5")
    done = run(tmp_path, *launcher, "model=linear", "debug=fast", "init.weights=null,nothing.ckpt")
    assert done.returncode == 1
    assert "failed" in done.stdout
    (table,) = tmp_path.glob("logs/*/sweep-*/sweep.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["failed"] for row in rows] == ["", "nothing.ckpt: no such file"]


def test_a_launcher_that_is_missing_is_said(run_train, monkeypatch):
    from zoo.run import explain

    text = "Could not find 'hydra/launcher/submitit_slurm'\n\nAvailable options in 'hydra/launcher':\n\tbasic\n"
    assert explain.explain(ValueError(text), [], None) == (
        "hydra/launcher=submitit_slurm: it needs an extra: pip install 'reference-zoo[submitit]'"
    )
    installed = text + "\tsubmitit_local\n\tsubmitit_slurm\n"
    assert "did you mean" in explain.explain(ValueError(installed.replace("_slurm'", "_slrum'", 1)), [], None)
