"""What surrounds a run: a lock on its folder, explanations of disk errors, and silence from libraries."""

import ctypes
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import terminal
from zoo.errors import ZooError
from zoo.run.commands import resume_command
from zoo.run.processes import is_main_process

if TYPE_CHECKING:
    from lightning import Trainer


class Interrupted(BaseException):
    """The user stopped the run; the message says how to resume it. As it is no ``Exception``, it also ends a sweep."""


failures: list[Exception] = []  # errors of the runs that this command started


@contextmanager
def explain_disk_errors(trainer: "Trainer") -> Iterator[None]:
    """If a file of a run cannot be written, raise an error that says from which checkpoint the run can be resumed."""
    from zoo.run.checkpoint import checkpoint_path, config_of

    try:
        yield
    except OSError as error:
        kept = checkpoint_path(trainer, "last")
        kept = f"to go on: {resume_command(kept, config_of(trainer))}" if kept else "no checkpoint is left"
        reason = error.strerror or str(error)
        raise ZooError(
            f"{os.fsdecode(error.filename)}: {reason}; {kept}" if error.filename else f"{reason}; {kept}"
        ) from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a run's folder against other runs, and remove half-written files that a killed run left in it.

    Raises:
        ZooError: another run is writing there.
    """
    from filelock import FileLock, Timeout

    from zoo.run.atomic import remove_parts

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
    except (OSError, NotImplementedError):  # the folder is read-only, or its disk has no locks
        pass
    if lock.is_locked:
        remove_parts(folder)
    try:
        yield
    finally:
        lock.release()


def quiet() -> None:
    """Silence Lightning's tips, and warnings that concern neither the user's settings nor the user's code."""
    # these modules must be imported before, as importing them sets log levels
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # trainer.profiler prints its report
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen layers are, on purpose
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # data.val_size=0
    warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist")  # the metrics are synced already
    # a run that was resumed just before an epoch's end has made no update of its own yet
    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`")
    # with one input channel, both memory layouts of a kernel differ in their strides alone
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")  # steps count over epochs
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # a resumed run's


def fast_precision(accelerator: str) -> str:
    """The value for trainer.precision=auto: bf16-mixed if the device has bfloat16 instructions, else 32-true.

    A CPU without them emulates bfloat16, which is many times slower than 32-bit arithmetic.
    """
    import torch

    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        tell = getattr(torch.cpu, "get_capabilities", dict)  # missing in older versions of torch
        able = tell()
        fast = accelerator in ("cpu", "auto") and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next batch.

    glibc would otherwise return the memory of a batch to the system after each update and get it again, page by page,
    which takes up to a tenth of a small network's step on a CPU. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    if not mallopt(-3, 2**30):  # M_MMAP_THRESHOLD: blocks of less than 1 GB come from the heap
        mallopt(-3, 2**25)  # the most that older versions of glibc take
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: how much free memory the heap keeps at its top


def stop_now(number: int, frame: Any) -> None:
    """Ctrl-C or SIGTERM outside of the training, where there is nothing to save."""
    raise Interrupted("stopped")


@contextmanager
def as_command() -> Iterator[None]:
    """Within the block, let Ctrl-C and SIGTERM end the command with one line, unless another handler than Python's own
    is installed, and print each warning as one line without the place in the code.
    """
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {number: default for number, default in defaults.items() if signal.getsignal(number) is default}
    for number in ours:
        signal.signal(number, stop_now)
    shown = warnings.formatwarning
    # without file and line, which say nothing to a user
    warnings.formatwarning = lambda message, *_, **__: f"warning: {terminal.clean(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = shown
        for number, default in ours.items():
            signal.signal(number, default)
