"""Resuming a run: its checkpoint, its config, and what must not have changed since."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict

from zoo.config.checks import differing
from zoo.config.overrides import hydra_value
from zoo.errors import ZooError
from zoo.paths import in_home
from zoo.run.said import Said

MOST_COUNTED = 10**12  # batches or updates: 30 years at a thousand per second
METRICS = "metrics.json"  # in a run's folder once the run is finished
PICTURES = "pictures"  # the folder in a run's folder for pictures, if no logger takes them


def find_resume(resume: str | None) -> Path | None:
    """The checkpoint that ``resume=PATH`` (a file or a run's folder) or ``resume=last`` (the newest in logs/) names."""
    if resume is None:
        return None
    if not resume:
        raise ZooError("resume= is empty; give a checkpoint, a run's folder, or last")
    if resume == "last":
        found = sorted(Path("logs").glob("**/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ZooError("resume=last: there is no checkpoint under logs/ yet; start a run first")
        return found[-1]
    path = Path(in_home(resume))
    for candidate in (path, path / "last.ckpt", path / "checkpoints" / "last.ckpt"):
        if candidate.is_file():
            return candidate
    raise ZooError(f"resume={resume}: there is no such checkpoint; give a file, a run's folder, or last")


def for_hydra(words: Sequence[str]) -> list[str]:
    """The words of a command line as Hydra takes them: paths in the home folder are expanded; see ``for_resume``."""
    found = [(word.partition("=") if re.match(r"[+\w.@/]+=~/", word) else (word, "", "")) for word in words]
    expanded = [f"{key}={hydra_value(str(in_home(value)))}" if equals else key for key, equals, value in found]
    return for_resume(expanded)


def for_resume(words: Sequence[str]) -> list[str]:
    """The words of a command line that resumes a run, so that Hydra composes them whatever run that is.

    Hydra composes them with the default config, which may lack keys that the resumed run has, as
    callbacks.early_stopping. ``resumed_config`` checks them against the run's own config.
    """
    if not any(word.startswith("resume=") and word not in ("resume=", "resume=null") for word in words):
        return list(words)
    single = re.compile(r"(?!hydra\.)[\w-]+(\.[\w-]+)+=")  # choices of groups have no dots
    return [f"++{word}" if single.match(word) else word for word in words]


def resumed_config(cfg: DictConfig, resume: Path, said: Said) -> DictConfig:
    """The config in the checkpoint, changed by this command's overrides of single values.

    Only numbers and choices are taken from the file; see ``zoo.run.stored``.
    """
    from zoo.pretrained.reading import read_checkpoint
    from zoo.run.explain import wrong_key
    from zoo.run.known import Known
    from zoo.run.stored import taken

    content = read_checkpoint(resume)
    if not isinstance(content, dict) or "config" not in content:
        raise ZooError(f"{resume} was not written by a training of this zoo, so it cannot be resumed")
    keys = [override.lstrip("+").partition("=")[0] for override in said.overrides]
    config = taken(content["config"], Known(said.folders), keys, str(resume))
    stored: Any = OmegaConf.create(config)
    OmegaConf.set_struct(stored, True)
    for override in said.overrides:
        key, _, _ = override.lstrip("+").partition("=")
        if key == "resume":
            continue
        typed = override.removeprefix("++")  # see for_resume
        if key.partition(".")[0] in ("optimizer", "scheduler") and not says_again(override, config):
            raise ZooError(
                f"{typed}: a resumed run keeps its optimizer and scheduler, which are in the checkpoint; to go on "
                f"with other ones, start anew from its weights: init.weights={resume}"
            )
        if key in ("experiment", "debug") or OmegaConf.is_config(OmegaConf.select(cfg, key)):
            raise ZooError(
                f"{typed}: a resumed run keeps its {key}; override single values, as in trainer.max_epochs=20"
            )
        parent = key.rpartition(".")[0]
        if parent and not OmegaConf.is_config(OmegaConf.select(stored, parent)) and f"{parent}._target_" not in keys:
            raise ZooError(wrong_key(key, config))
        with open_dict(stored):
            OmegaConf.update(stored, key, OmegaConf.select(cfg, key))
    return stored


def says_again(override: str, stored: Mapping[str, Any]) -> bool:
    """Whether an override sets a ``_target_`` to the class that the stored config already names there."""
    key, _, value = override.lstrip("+").partition("=")
    return key.endswith("._target_") and OmegaConf.select(OmegaConf.create(dict(stored)), key) == value


def ended(content: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Why a checkpoint's run has nothing left to train, and which override continues it; None if training goes on.

    Args:
        content: the content of the checkpoint.
        config: the config of the resumed run, as plain values.
    """
    from lightning.pytorch.callbacks import Timer
    from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

    trainer = config["trainer"]
    epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps = content["global_step"]
    if 0 < (trainer["max_epochs"] or -1) <= epochs:
        return f"after {epochs} epochs; to go on, set trainer.max_epochs higher"
    if 0 < (trainer["max_steps"] or -1) <= steps:
        return f"after {steps} updates; to go on, set trainer.max_steps higher"
    patience = {name: c["patience"] for name, c in config["callbacks"].items() if c and "patience" in c}
    for state in content["callbacks"].values():
        reason = EarlyStoppingReason(state.get("stopping_reason", 0))
        if reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            name, most = next(iter(patience.items()), ("early_stopping", state["patience"]))
            if state["wait_count"] >= most:
                return f"stopped early; to go on, set callbacks.{name}.patience higher than {state['wait_count']}"
        elif reason is not EarlyStoppingReason.NOT_STOPPED:
            return f"stopped early ({reason.name.lower()}); to go on, set callbacks.early_stopping=null"
    if trainer["max_time"]:
        limit = Timer(trainer["max_time"])._duration
        done = content["callbacks"].get("Timer", {}).get("time_elapsed", {}).get("train", 0.0)
        if limit is not None and done >= limit:
            return f"after {done:.0f} s; to go on, set trainer.max_time longer"
    return None


class Place(NamedTuple):
    """Where a run resumes: the first step that it logs, and whether training has ended and only its test is left."""

    step: int
    ended: bool


START = Place(0, False)


def place_of(resume: Path, run_dir: Path, config: Mapping[str, Any]) -> Place:
    """Where the run of a checkpoint resumes.

    Raises:
        ZooError: the run is finished, its test included; the message names the override that continues it.
    """
    from zoo.pretrained.reading import read_checkpoint

    content = read_checkpoint(resume)
    check_counts(content.get("loops"), str(resume))
    try:
        reason = ended(content, config)
    except (AttributeError, LookupError, TypeError, ValueError):  # states that are not what callbacks write
        raise ZooError(f"{resume} is damaged: what it says of how far its run is makes no sense") from None
    if reason and (run_dir / METRICS).is_file():
        raise ZooError(f"{resume}: this run is finished, {reason}")
    return Place(first_step(content), reason is not None)


def check_counts(loops: Any, where: str) -> None:
    """Raise a ``ZooError`` if a counter of Lightning's loops is out of range: a run that counts from -10^9 would never
    end.
    """
    level = [loops]
    while level:
        node = level.pop()
        if isinstance(node, Mapping):
            level.extend(node.values())
        elif isinstance(node, (list, tuple)):
            level.extend(node)
        elif isinstance(node, (int, float)) and not 0 <= node <= MOST_COUNTED:
            raise ZooError(f"{where} is damaged: its loops have counted {node}")


def first_step(checkpoint: Mapping[str, Any]) -> int:
    """The step at which a run that resumes from this checkpoint logs its first batch.

    Lightning counts a batch after the callbacks that may save a checkpoint at its end: then it is counted here.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]["current"]
    uncounted = batches["ready"] == batches["processed"] > batches["completed"]
    return int(loops["epoch_loop.state_dict"]["_batches_that_stepped"]) + int(uncounted)


def check_new(run_dir: Path) -> None:
    """Raise a ``ZooError`` if a new run would overwrite the checkpoints of another."""
    requeued = "SLURM_JOB_ID" in os.environ and any(run_dir.glob("hpc_ckpt_*"))  # Lightning resumes from that
    if (run_dir / "checkpoints" / "last.ckpt").exists() and not requeued:
        raise ZooError(
            f"{run_dir} holds a run already: resume={run_dir} goes on with it; for a new one give another hydra.run.dir"
        )


def check_same(data: Any, model: Any, resume: Path) -> None:
    """Raise a ``ZooError`` if the data have changed since the run began, for example a text or an image, or if the
    model's tensors differ from those in the checkpoint, for example after an override of its width.
    """
    from zoo.data.base import MemoryData
    from zoo.pretrained.reading import read_checkpoint

    anew = f"start anew from its weights: init.weights={resume}"
    content = read_checkpoint(resume)
    if data.card()["preprocess"] != content["card"]["preprocess"]:
        raise ZooError(
            f"resume={resume}: the data have changed: their preprocessing or vocabulary differs; restore the "
            f"old data, or {anew}"
        )
    known = content.get("contents")  # older checkpoints lack it
    if isinstance(data, MemoryData) and isinstance(known, Mapping) and (said := changes(known, data.contents())):
        raise ZooError(f"resume={resume}: the data have changed: {said}; restore the old data, or {anew}")
    before = {key: tuple(value.shape) for key, value in content["state_dict"].items() if key.startswith("model.")}
    now = {f"model.{key}": tuple(value.shape) for key, value in model.state_dict().items()}
    if other := differing(before, now):
        was, is_ = (shapes.get(other[0], "missing") for shapes in (before, now))
        raise ZooError(
            f"resume={resume}: a resumed run keeps its model's layers, and {other[0]} was {was} and would be {is_}; "
            f"leave out what changes them, or {anew}, with init.skip for what does not fit"
        )


def changes(before: Mapping[str, str], now: Mapping[str, str], most: int = 3) -> str:
    """Name the first ``most`` files that have changed, are gone or are new, given a hash of each file's content."""
    gone = [f"{name} is gone" for name in before if name not in now]
    other = [f"{name} has changed" for name in before if name in now and now[name] != before[name]]
    new = [f"{name} is new" for name in now if name not in before]
    said = [*other, *gone, *new]
    more = f" (and {len(said) - most:,} more)" if len(said) > most else ""
    return ", ".join(said[:most]) + more
