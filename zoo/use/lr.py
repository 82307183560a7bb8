"""The learning-rate range test (Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3)."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import ZooError


class RangeTest(NamedTuple):
    """The result of a range test: the rate and the smoothed training loss of each update, and a suggested rate."""

    name: str
    rates: list[float]
    losses: list[float]
    suggestion: float


def composed(words: Sequence[str]) -> dict[str, Any]:
    """The resolved config of a training command without callbacks and loggers.

    Args:
        words: overrides as for ``train.py``; a word without ``=`` names an experiment.

    Raises:
        ZooError: the overrides are not valid.
    """
    from omegaconf import OmegaConf

    from zoo.config.checks import check_config, choices, unknown
    from zoo.run import compose
    from zoo.run.ahead import allow_named, plain_config
    from zoo.run.explain import base_config, explain

    overrides = []
    own = {path.stem for folder in compose.own_configs() for path in (folder / "experiment").glob("*.yaml")}
    for word in words:
        if "=" in word or word.startswith("~"):
            overrides.append(word)
        elif word in choices("experiment") or word in own:
            overrides.append(f"experiment={word}")
        else:
            raise unknown(word, word, choices("experiment"), "no such experiment; or write key=value")
    try:
        with compose.hydra_of_its_own():
            # a run's name and folder are Hydra's, and there is no run here
            cfg = compose.composed(["logger=none", *overrides, "callbacks=[]", "name=lr"])
        OmegaConf.set_struct(cfg, False)
        cfg.callbacks, cfg.logger = {}, {}  # an experiment may have named some
        del cfg["hydra"]
        config = plain_config(cfg)
    except Exception as error:
        if type(error).__module__.startswith(("hydra", "omegaconf")):
            raise ZooError(explain(error, overrides, base_config(overrides))) from None
        raise
    allow_named(config)
    check_config(config)
    return config


def range_test(words: Sequence[str], lowest: float, highest: float, steps: int) -> RangeTest:
    """Train on the training split while the learning rate rises exponentially, until the loss diverges.

    The schedule is left out. Nothing is validated, tested, logged or kept.

    Args:
        words: what to train, see ``composed``.
        lowest, highest: the first and the last learning rate.
        steps: the number of updates from the first to the last.

    Raises:
        ZooError: the settings are not valid, the task is not trained by one optimizer, or there are too few losses.
    """
    from hydra.utils import instantiate
    from lightning import Trainer, seed_everything
    from lightning.pytorch.tuner import Tuner

    from zoo.run import report
    from zoo.run.choices import init_from_data
    from zoo.run.guard import quiet
    from zoo.tasks.task import check_kind

    if not 0 < lowest < highest:
        raise ZooError(f"--min={lowest} --max={highest}: learning rates are above 0, and the first is below the last")
    config = composed(words)
    quiet()
    seed_everything(config["seed"], workers=True, verbose=False)
    data = instantiate(config["data"], _convert_="all")
    data.prepare_data()
    data.setup()
    model = instantiate(config["model"], _convert_="all")
    optimizer = instantiate(config["optimizer"], _convert_="all")
    task = instantiate(config["task"], _partial_=True, _convert_="all")(model=model, optimizer=optimizer)
    check_kind(task)
    if not task.automatic_optimization:
        kind = type(task).__name__
        raise ZooError(f"zoo lr is for tasks that one optimizer trains, and {kind} has several optimizers or none")
    report.check_fit(task, data, config)
    init_from_data(model, data)
    kept = (
        "accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches",
        "deterministic",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # Lightning keeps the initial weights there
        trainer = Trainer(
            **{key: config["trainer"][key] for key in kept if key in config["trainer"]}, devices=1, max_epochs=-1,
            check_val_every_n_epoch=10**9, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            default_root_dir=folder,
        )  # fmt: skip
        task.check_run(trainer, data)
        with bar_in_terminals_only():
            found: Any = Tuner(trainer).lr_find(
                task, datamodule=data, min_lr=lowest, max_lr=highest, num_training=steps, update_attr=False
            )
    suggestion = found.suggestion()
    if suggestion is None:
        raise ZooError("the loss diverged too early for a suggestion: set a lower --min, or more --steps")
    name = " ".join(words)
    rates, losses = found.results["lr"], found.results["loss"]
    return RangeTest(name, rates[: len(losses)], losses, suggestion)


@contextmanager
def bar_in_terminals_only() -> Iterator[None]:
    """Within the block, let Lightning's range test draw its progress bar only if stderr is a terminal: in a file or a
    pipe each update of the bar would be a line. Lightning has no option for it.
    """
    from lightning.pytorch.tuner import lr_finder

    bar: Any = lr_finder.tqdm
    lr_finder.tqdm = partial(bar, disable=None)  # type: ignore[misc, assignment]  # None: disabled without a terminal
    try:
        yield
    finally:
        lr_finder.tqdm = bar  # type: ignore[misc]


def plot(result: RangeTest, out: Path) -> None:
    """Draw the loss over the learning rate, with the suggestion, into a picture file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.semilogx(result.rates, result.losses, label="training loss, smoothed")
    axes.axvline(result.suggestion, color="C1", linestyle="--", label=f"suggestion {result.suggestion:.2g}")
    title = (result.name or "default run").replace("$", r"\$")
    axes.set(xlabel="learning rate", ylabel="loss", title=f"learning-rate range test: {title}")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(out)
