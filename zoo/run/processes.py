"""The processes of one run: how they are started, which one prints messages, and what they agree on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import read_write

from zoo.paths import PACKAGE
from zoo.run.said import Said


def agreed(stamp: str) -> str:
    """A stamp, such as the time, on which all processes of a run agree.

    Under torchrun it is the main process's ``stamp``; with several processes under srun it names the job's step; in
    all other cases it is ``stamp`` itself.
    """
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


DISTRIBUTED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONSAFEPATH")


@contextmanager
def several_processes(said: Said) -> Iterator[None]:
    """Set what Lightning needs to start the other processes of ``trainer=ddp``: the command and the folder of this run.

    Lightning repeats the command line, which in a sweep would start the whole sweep, for ``zoo train`` names no script,
    and in Python is another program's. Afterwards everything is reset, so that the next run starts its own processes.
    """
    from torch import distributed

    arguments, main = sys.argv, sys.modules["__main__"]
    spec: Any = getattr(main, "__spec__", None)
    environment = {key: os.environ.get(key) for key in DISTRIBUTED}
    config: Any = HydraConfig.get()
    own = [f"--config-dir={said.config_dir}"] if said.config_dir else []
    sys.argv = [arguments[0], *own, *said.overrides]
    with read_write(config):
        config.run.dir = str(said.run_dir)  # which Lightning adds
    main.__spec__ = find_spec("zoo.train")
    if Path.cwd() != PACKAGE.parent:
        os.environ["PYTHONSAFEPATH"] = "1"  # else python -m puts the current folder first on their sys.path
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
    """Whether this process of the run is the first to fail; later errors are consequences of it, or the same error."""
    from torch.distributed import distributed_c10d, is_available, is_initialized

    if not (is_available() and is_initialized()):
        return is_main_process(of="machine")
    try:
        return distributed_c10d._get_default_store().add("zoo/failed", 1) == 1
    except RuntimeError:  # the main process, which keeps the store, is gone
        return False


# The environment variables for a process's rank under torchrun, Lightning's launcher and srun
RANKS = {
    "run": ("RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"),
    "machine": ("LOCAL_RANK", "SLURM_LOCALID"),
}


def is_main_process(of: str = "run") -> bool:
    """Whether this is the main process, the one that prints messages, of the whole "run" or of this "machine"."""
    return all(os.environ.get(key, "0") == "0" for key in RANKS[of])
