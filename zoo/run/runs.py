"""What surrounds a run: its folder, the words for going on with it, its other processes, and quiet."""

import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, read_write

from zoo.config.checks import check_run_name
from zoo.errors import ZooError
from zoo.paths import PACKAGE
from zoo.run.links import resumed_folder

if TYPE_CHECKING:
    from lightning import Trainer


class Interrupted(BaseException):
    """The user stopped the run; the message says how to go on. No ``Exception``: it ends a sweep too."""


failures: list[Exception] = []  # of the runs of this command


def run_dir(resume: str | None, name: str) -> str:
    """Where a run writes: a folder of its own, or for a resumed run the one it had."""
    check_run_name(name)
    if resume is not None:
        return str(resumed_folder(resume))
    # microseconds, so that two runs that start together do not share a folder
    return f"logs/{name}/{agreed(f'{datetime.now():%Y-%m-%d_%H-%M-%S-%f}')}"


def agreed(stamp: str) -> str:
    """What the main process takes for ``stamp``, where torchrun or srun started the processes of one run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from torch.distributed import rendezvous

        store, rank, _ = next(rendezvous("env://"))
        key = f"zoo/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        if rank == 0:
            store.set(key, stamp)
        return store.get(key).decode()
    if "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    return stamp


def register_resolvers() -> None:
    """What ``configs/`` may interpolate: a run's folder, where Hydra notes the config in it, a folder's classes."""
    OmegaConf.register_new_resolver("zoo.run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "zoo.subdir",
        lambda resume: subdir(resume) if is_main_process() else None,
        use_cache=True,
        replace=True,
    )
    OmegaConf.register_new_resolver("zoo.count_classes", count_classes, replace=True)
    OmegaConf.register_new_resolver("zoo.vocab_size", vocab_size, replace=True)


def count_classes(root: str | None) -> int:
    """How many classes a folder of images has, by which models are sized before it is read."""
    from zoo.data.layout import class_names

    return len(class_names(root))


def vocab_size(*, _parent_: Any) -> int:
    """How many tokens a text has, by which models are sized before it is tokenised."""
    from zoo.data.text import vocab_size

    return vocab_size(_parent_=_parent_)


def subdir(resume: str | None) -> str:
    """Where in the run's folder Hydra notes the config: a place of its own for each time that the run was resumed."""
    return f".hydra-{datetime.now():%Y%m%d-%H%M%S}" if resume else ".hydra"


@contextmanager
def keeping(trainer: "Trainer") -> Iterator[None]:
    """Where something of a run cannot be written any more, say what is left to go on with."""
    from zoo.run.checkpoint import config_of, written

    try:
        yield
    except OSError as error:
        kept = written(trainer, "last")
        kept = f"to go on: {resume_command(kept, config_of(trainer))}" if kept else "no checkpoint is left"
        reason = error.strerror or str(error)
        raise ZooError(
            f"{os.fsdecode(error.filename)}: {reason}; {kept}" if error.filename else f"{reason}; {kept}"
        ) from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other runs; what a killed one left half written is removed.

    Raises:
        ZooError: another run is writing there.
    """
    from filelock import FileLock, Timeout

    from zoo.run.checkpoint import remove_parts

    if not is_main_process():
        yield
        return
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ZooError(
            f"another run is writing to {folder}; wait for it to end, or give this one a folder of its own: "
            f"hydra.run.dir=…"
        ) from None
    except (OSError, NotImplementedError):  # a folder that is read-only, or on a disk without locks
        pass
    if lock.is_locked:
        remove_parts(folder)
    try:
        yield
    finally:
        lock.release()


def quiet() -> None:
    """Keep Lightning's tips, and its use of what torch has deprecated, from the user's screen."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen layers are, on purpose
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # data.val_size=0
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist")  # the metrics are synced already
    # a run that was resumed just before an epoch's end has made no update of its own yet
    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`")
    # with one input channel both memory layouts of a kernel are the same, by other strides
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")  # steps count over epochs
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # a resumed run's


DISTRIBUTED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONSAFEPATH")


@contextmanager
def several_processes(run_dir: Path) -> Iterator[None]:
    """What Lightning needs to start the further processes of ``trainer=ddp``: the command of this run, in this folder.

    It repeats the command line, which for a sweep would be the sweep, and for ``zoo train`` is no file. Afterwards
    all is as it was, so that the next run of a sweep starts its own.
    """
    from torch import distributed

    arguments, main = sys.argv, sys.modules["__main__"]
    spec: Any = getattr(main, "__spec__", None)
    config: Any = HydraConfig.get()
    environment = {key: os.environ.get(key) for key in DISTRIBUTED}
    folders = [a for a in arguments if a.startswith("--config-dir=")]
    sys.argv = [arguments[0], *folders, *config.overrides.task]
    main.__spec__ = find_spec("zoo.train")
    if Path.cwd() != PACKAGE.parent:
        os.environ["PYTHONSAFEPATH"] = "1"  # or python -m would put the current folder first on their sys.path
    with read_write(config):
        config.run.dir = str(run_dir)
    try:
        yield
    except Exception as error:
        vars(error)["first"] = first_to_speak()
        raise
    finally:
        sys.argv, main.__spec__ = arguments, spec
        for key, value in environment.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def first_to_speak() -> bool:
    """Whether no other process of this run has failed before this one: theirs are consequences, or the same again."""
    from torch.distributed import distributed_c10d, is_available, is_initialized

    if not (is_available() and is_initialized()):
        return is_main_process(of="machine")
    try:
        return distributed_c10d._get_default_store().add("zoo/failed", 1) == 1
    except RuntimeError:  # the main process, which keeps the store, is gone
        return False


# as torchrun, Lightning's own launcher and srun call them
RANKS = {
    "run": ("RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"),
    "machine": ("LOCAL_RANK", "SLURM_LOCALID"),
}


def is_main_process(of: str = "run") -> bool:
    """Whether this is the one process of several that speaks, of the "run" or of this "machine"."""
    return all(os.environ.get(key, "0") == "0" for key in RANKS[of])


def command(tool: str) -> str:
    """How to call "train", "zoo", "tensorboard" or "python" from here: with the venv's path if it is not active."""
    if tool == "train" and Path(sys.argv[0]).name == "train.py":
        return f"{command('python')} {shlex.quote(sys.argv[0])}"
    if tool == "train":
        return f"{command('zoo')} train"
    beside = Path(sys.executable).parent / tool
    found = shutil.which(tool)
    if found and Path(found).parent == beside.parent:
        return tool
    return shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))


def resume_command(checkpoint: str | Path, config: Mapping[str, Any]) -> str:
    """The command that goes on with a run: also with what a resumed run does not take from a file, as a folder of data.

    Args:
        checkpoint: a file, or "last".
        config: the run's, resolved.
    """
    from zoo.config.overrides import config_dirs, override
    from zoo.run.stored import Known, config_folders, said_again

    folders = [shlex.quote(f"--config-dir={folder}") for folder in config_dirs(sys.argv) if folder != own_configs()]
    again = said_again(config, Known(config_folders()))
    return " ".join([command("train"), *folders, override("resume", str(checkpoint)), *again])


def own_configs() -> str:
    """The user's own configs in the current folder, which no command need name."""
    return str(Path("configs").resolve())


def fast_precision(accelerator: str) -> str:
    """What trainer.precision=auto is: bf16-mixed where the device computes in bfloat16 itself, else 32-true.

    A CPU without such instructions emulates them, many times slower than in 32 bits.
    """
    import torch

    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        tell = getattr(torch.cpu, "get_capabilities", dict)  # older torches do not
        able = tell()
        fast = accelerator in ("cpu", "auto") and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"
