"""Train a model from the command line: compose, build, copy weights, fit, test, report.

``train.py`` at the top of a clone and ``zoo train`` of an installed zoo both run ``main``. Heavy imports stand inside
the functions: ``--help``, completion and a mistyped key answer without torch.
"""

import logging
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from zoo.config import check_config, explain
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.runs import Interrupted, command, find_resume, register_resolvers

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


def train(cfg: DictConfig) -> dict[str, float]:
    """One run, from a composed config to its test metrics."""
    resume = find_resume(cfg.resume)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if resume:
        cfg = resumed_config(cfg, resume)
    if not cfg.data.val_size:  # nothing to choose the best by: the last weights are the result
        cfg.callbacks.best, cfg.select = None, "last"
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    check_config(config)

    import torch
    from hydra.utils import instantiate
    from lightning import seed_everything

    from zoo import report
    from zoo.callbacks.checkpoint import AtomicCheckpointIO, Describe
    from zoo.pretrained import read_weights
    from zoo.transfer import copy_weights, freeze

    quiet()
    build = partial(instantiate, _convert_="all")  # plain lists, which torch and checkpoints take
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = build(cfg.data)
    data.prepare_data()
    data.setup()

    model = build(cfg.model)
    scheduler = build(cfg.scheduler) if cfg.scheduler else None
    task = build(cfg.task, _partial_=True)(model=model, optimizer=build(cfg.optimizer), scheduler=scheduler)
    report.check_fit(task, data, config)
    rows = []
    if cfg.init.weights and not resume:
        rows = report.copied(lambda: copy_weights(model, read_weights(cfg.init.weights), cfg.init.skip))
    frozen = freeze(model, cfg.init.freeze)
    if rows or frozen:
        report.transfer(model, rows, frozen)
    if cfg.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.compile:
        report.compile_or_warn(model)

    describe = Describe(config, data, model)
    callbacks = [build(c) for c in cfg.callbacks.values() if c is not None]
    logger = build(cfg.logger, _partial_=True)(save_dir=str(run_dir)) if cfg.logger else False
    trainer = build(cfg.trainer, _partial_=True)(
        callbacks=[*callbacks, describe], logger=logger, plugins=[AtomicCheckpointIO()]
    )
    report.start(config, model, data, run_dir)
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    return finish(config, trainer, task, data, describe, run_dir)


def quiet() -> None:
    """Keep Lightning's tips, and its use of what torch has deprecated, from the user's screen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen layers are, on purpose
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")  # steps count over epochs
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # a resumed run's


def finish(
    config: dict[str, Any], trainer: "Trainer", task: "LightningModule", data: Any, describe: Any, run_dir: Path
) -> dict[str, float]:
    """Test the chosen weights once, write the metrics into the run's folder and checkpoint, and report."""
    from zoo import report
    from zoo.callbacks.checkpoint import load_chosen, written

    chosen = written(trainer, config["select"]) or written(trainer, "last")
    metrics = {}
    if config["test"] and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        load_chosen(task, chosen)
        trainer.test(task, datamodule=data, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    describe.finish(metrics, chosen, run_dir)
    report.finished(metrics, describe, chosen, data, run_dir)
    return metrics


def resumed_config(cfg: DictConfig, resume: Path) -> DictConfig:
    """The config that the checkpoint was trained with, and this command's overrides of single values on top."""
    from zoo.pretrained import read_checkpoint

    content = read_checkpoint(resume)
    if "config" not in content:
        raise ZooError(f"{resume} was not written by a training of this zoo, so it cannot be resumed")
    stored = OmegaConf.create(dict(content["config"]))
    OmegaConf.set_struct(stored, True)
    for override in HydraConfig.get().overrides.task:
        key, _, _ = override.lstrip("+").partition("=")
        if key in ("resume", "experiment", "debug"):
            continue
        if OmegaConf.is_config(OmegaConf.select(cfg, key)):
            raise ZooError(
                f"{override}: a resumed run keeps its {key}; override single values, as in trainer.max_epochs=20"
            )
        with open_dict(stored):
            OmegaConf.update(stored, key, OmegaConf.select(cfg, key))
    return stored


failures: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def run(cfg: DictConfig) -> dict[str, float] | None:
    """A run that fails in a sweep is reported, and the sweep goes on."""
    try:
        return train(cfg)
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK") or isinstance(error, Interrupted):
            raise
        failures.append(error)
        say(error)
        return None


def main() -> None:
    """The command: exit code 0, or one line on stderr and 1 (130 after Ctrl-C)."""
    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to us instead of as many lines
    sys.path.insert(0, os.getcwd())  # the user's own modules, for _target_
    own = Path("configs")
    if own.is_dir() and own.resolve() != CONFIGS and not any(a.startswith(("--config-dir", "-cd")) for a in sys.argv):
        sys.argv.append(f"--config-dir={own.resolve()}")
    try:
        run()
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        say(error)
        sys.exit(1)
    sys.exit(1 if failures else 0)


def say(error: Exception) -> None:
    """One line on stderr, and for an error that nobody foresaw how to see where it came from."""
    foreseen = isinstance(error, ZooError) or type(error).__module__.startswith(("hydra", "omegaconf", "antlr4"))
    hint = "" if foreseen else f"\n(the traceback: ZOO_TRACEBACK=1 {command('train')} …)"
    print(f"error: {message(error)}{hint}", file=sys.stderr)


def message(error: Exception) -> str:
    """One line for people."""
    cause: BaseException | None = error
    while cause is not None:  # one of ours may be inside Hydra's wrapping
        if isinstance(cause, ZooError):
            return str(cause)
        cause = cause.__cause__
    if type(error).__module__.startswith(("hydra", "omegaconf", "antlr4")) or "Config group override" in str(error):
        overrides = [a for a in sys.argv[1:] if "=" in a and not a.startswith("-")]
        return explain(error, overrides, base_config(overrides))
    return f"{type(error).__name__}: {error}"


def base_config(overrides: list[str]) -> dict[str, Any] | None:
    """The config composed with the choices of groups alone, whose keys the message names; None if that fails too."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    groups = [o for o in overrides if (CONFIGS / o.partition("=")[0]).is_dir()]
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return OmegaConf.to_container(compose("train", groups), resolve=False)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException, ValueError):
        return None


if __name__ == "__main__":
    main()
