"""Train a model from the command line: compose the config, build everything, copy weights, fit, test and report.

``train.py`` in a clone and ``zoo train`` in an installed zoo both run ``main``. Slow imports are inside the functions,
so that ``--help``, shell completion and messages about mistyped keys do not wait for torch.
"""

import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":
    from zoo.config.own import leave_current_folder

    leave_current_folder()  # before anything else is imported

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from zoo import terminal
from zoo.config.checks import check_config
from zoo.config.overrides import config_dirs
from zoo.config.own import allow_said
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.run.ahead import allow_named, plain_config
from zoo.run.choices import command_of, init_from_data, resolve_dependent
from zoo.run.commands import resume_command
from zoo.run.explain import check_flags, message, say
from zoo.run.guard import (
    Interrupted,
    alone_in,
    as_command,
    explain_disk_errors,
    failures,
    keep_freed_memory,
    quiet,
)
from zoo.run.help import asked, print_help
from zoo.run.known import check_packages
from zoo.run.links import check_links, places_of
from zoo.run.processes import is_main_process, several_processes
from zoo.run.resolvers import register_resolvers
from zoo.run.resume import METRICS, START, check_new, check_same, find_resume, for_hydra, place_of, resumed_config
from zoo.run.said import Said, said_to_hydra
from zoo.run.sweep import OPTUNA, note_failure, objective

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer


class Result(NamedTuple):
    """What a run leaves.

    Attributes:
        metrics: the test metrics by name; empty with ``test=false``.
        validated: the validation metrics of the same weights by name.
        checkpoint: the tested checkpoint, or with ``test=false`` the one that ``select`` names; None if there is none.
    """

    metrics: dict[str, float]
    validated: dict[str, float]
    checkpoint: Path | None


def train(cfg: DictConfig, said: Said, further: Sequence["Callback"] = ()) -> Result:
    """Execute one run, from the composed config to the test.

    Args:
        said: the overrides and the folders of the run.
        further: callbacks besides those of the config.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # without its message about fonts on the first run
    resume = find_resume(cfg.resume)
    with alone_in(said.run_dir):
        return train_in(said, cfg, resume, further)


def train_in(said: Said, cfg: DictConfig, resume: Path | None, further: Sequence["Callback"] = ()) -> Result:
    """Execute a run in a folder that no other process uses, from the start or from the checkpoint ``resume``."""
    run_dir = said.run_dir
    if resume:
        cfg = resumed_config(cfg, resume, said)
    elif is_main_process():
        check_new(run_dir)
    config = plain_config(cfg)
    if not resume:  # for a resumed run, only modules in the user's configs and command are allowed (see allow_said)
        allow_named(config)
    check_config(config)
    config["card"]["command"] = command_of(config, said.overrides)
    place = place_of(resume, run_dir, config) if resume else START
    cfg = DictConfig(config)

    import torch
    from hydra.utils import instantiate
    from lightning import seed_everything
    from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

    from zoo.callbacks.picture import leave_out_unfit
    from zoo.pretrained.reading import read_weights
    from zoo.pretrained.transfer import copy_weights, freeze
    from zoo.run import report
    from zoo.run.atomic import AtomicCheckpointIO
    from zoo.run.checkpoint import Describe, check_written
    from zoo.run.control import StopAndResume
    from zoo.run.curves import close, open_loggers
    from zoo.run.epoch import shorten
    from zoo.run.parallel import check_batch_norm, check_calls
    from zoo.run.saving import check_length
    from zoo.tasks.task import check_kind

    quiet()
    keep_freed_memory()
    build = partial(instantiate, _convert_="all")  # plain lists, which torch and checkpoints take
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = build(cfg.data)
    data.prepare_data()
    data.setup()

    model = build(cfg.model)
    if resume:
        check_same(data, model, resume)
    scheduler = build(cfg.scheduler) if cfg.scheduler else None
    task = build(cfg.task, _partial_=True)(model=model, optimizer=build(cfg.optimizer), scheduler=scheduler)
    check_kind(task)
    report.check_fit(task, data, config)
    resolve_dependent(config, task)
    cfg = DictConfig(config)
    if not resume:
        init_from_data(model, data)
    rows, whole = [], bool(cfg.init.get("whole_table"))
    if cfg.init.weights and not resume:
        source, options = cfg.init.weights, (cfg.init.skip, cfg.init.get("rename"))
        rows = report.copied(lambda: copy_weights(model, read_weights(source), *options), source, whole)
    frozen = freeze(model, cfg.init.freeze)
    if rows or frozen:
        report.transfer(model, rows, frozen, whole)
    if cfg.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.compile:
        report.compile_or_warn(task)

    if place.ended:
        report.console.print("this run is trained already; only its test is missing")
    describe = Describe(config, data, model, run_dir, place.ended)
    callbacks = [build(c) for c in cfg.callbacks.values() if c is not None]
    # "last" comes after "best", whatever the order in the config, so that last.ckpt holds the current state of "best"
    callbacks.sort(key=lambda callback: isinstance(callback, ModelCheckpoint) and callback.monitor is None)
    callbacks.sort(key=lambda callback: isinstance(callback, StopAndResume))
    loggers = open_loggers(cfg.logger or {}, run_dir, place.step)
    if resume:
        check_links(run_dir, places_of(config, loggers))
    try:
        trainer = build(cfg.trainer, _partial_=True)(
            callbacks=[describe, *callbacks, *further],
            logger=loggers or False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(run_dir),
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        )
    except (ImportError, TypeError, ValueError) as error:  # Lightning's errors for invalid arguments
        raise ZooError(f"trainer: {error}") from None
    leave_out_unfit(trainer, task, data)
    shorten(trainer, task)
    check_length(trainer)
    check_calls(trainer, task)
    check_batch_norm(trainer, cfg.trainer.get("sync_batchnorm", False), model, data)
    task.check_run(trainer, data)
    report.start(config, model, data, run_dir)
    try:
        with several_processes(said), explain_disk_errors(trainer):
            if is_main_process() and not place.ended:
                (run_dir / METRICS).unlink(missing_ok=True)  # from before the run was resumed with more epochs
            trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
            if not place.ended:
                check_written(trainer)
            return finish(config, trainer, task, data, describe, run_dir)
    finally:
        close(loggers)


def finish(
    config: dict[str, Any], trainer: "Trainer", task: "LightningModule", data: Any, describe: Any, run_dir: Path
) -> Result:
    """Test the selected weights once, write the metrics into the run's folder and checkpoint, and print a report."""
    from zoo.run import report
    from zoo.run.checkpoint import checkpoint_path, load_chosen

    found = checkpoint_path(trainer, config["select"]) or checkpoint_path(trainer, "last")
    describe.chosen = trainer.strategy.broadcast(found)  # only the main process knows where a rescued checkpoint is
    if describe.chosen and describe.chosen.stem != config["select"]:
        report.console.print(
            f"no {config['select']}.ckpt was written, as nothing was validated: the last weights are used"
        )
    epochs: Any = trainer.fit_loop.epoch_progress.current
    epochs.completed = epochs.started  # also if only the test was missing
    if config["test"] and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        load_chosen(trainer, task, describe.chosen)
        try:
            trainer.test(task, datamodule=data, verbose=False)
        except Interrupted:
            raise Interrupted(f"stopped during the test; to run it again: {resume_command(run_dir, config)}") from None
    elif trainer.is_global_zero:
        describe.note_metrics()
    if trainer.is_global_zero:
        report.finished(describe.metrics, describe, describe.chosen, data, task.model, run_dir)
    return Result(describe.metrics, describe.validated, describe.chosen)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def run(cfg: DictConfig) -> dict[str, float] | float | None:
    """Execute one run; if it fails, report this and return, so that a sweep continues with its next run."""
    try:
        metrics = train(cfg, said_to_hydra()).metrics
        return objective(cfg) if OPTUNA in HydraConfig.get().sweeper._target_ else metrics
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        failures.append(error)
        say(error)
        if is_main_process() and HydraConfig.get().mode == RunMode.MULTIRUN:
            note_failure(Path(HydraConfig.get().runtime.output_dir), message(error)[0])
        return objective(cfg) if OPTUNA in HydraConfig.get().sweeper._target_ else None


def main() -> None:
    """The command-line entry point: exit code 0, or 1 (130 after Ctrl-C) with one line on stderr."""
    terminal.accept_any_text()
    register_resolvers()
    with as_command():
        run_command()


def run_command() -> None:
    """Parse the command line, execute the run or sweep, and turn errors into exit codes."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them over several lines
    for flag in {"-m", "--multirun"} & set(sys.argv):  # Hydra expects it first; users may write it anywhere
        sys.argv.remove(flag)
        sys.argv.insert(1, flag)
    own = Path("configs")
    if own.is_dir() and own.resolve() != CONFIGS and not any(a.startswith(("--config-dir", "-cd")) for a in sys.argv):
        sys.argv.append(f"--config-dir={own.resolve()}")
    sys.argv[1:] = for_hydra(sys.argv[1:])
    allow_said(sys.argv[1:], map(Path, config_dirs(sys.argv)))
    try:
        if help_asked := asked(sys.argv[1:]):
            print_help(*help_asked)
            sys.exit(0)
        check_flags(sys.argv[1:])
        check_packages(sys.argv[1:], [Path(folder) for folder in config_dirs(sys.argv)])
        if sys.argv[1:2] in (["-m"], ["--multirun"]) and "TORCHELASTIC_RUN_ID" in os.environ:
            raise ZooError("torchrun starts the processes of one run; in a sweep trainer=ddp starts those of each")
        run()
    except Interrupted as stop:
        if is_main_process():
            print(file=sys.stderr)
            terminal.say(str(stop))
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        say(error)
        sys.exit(1)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
