"""How a task's weights are updated: its regularisers (lecture 16.5), optimizer and schedule (16.4)."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import Optimizer

from zoo.arguments import NonNegative
from zoo.errors import ZooError
from zoo.pretrained.transfer import head_names, matches

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # their weights are (inputs, outputs, …)


class Optimised(LightningModule):
    """A model and how its weights are updated; the base class of ``Task``.

    Args:
        model: any module.
        optimizer: builds the optimizer from parameter groups, as a ``functools.partial`` of a torch.optim class does;
            null for a task that only evaluates.
        scheduler: builds the learning-rate schedule from the optimizer, or null for a constant rate. If one of its
            arguments has the value ``"total_steps"``, it receives the number of updates in the whole run, and the
            schedule advances after every update; otherwise it advances after every epoch. The value ``"total_epochs"``
            stands for the number of epochs.
        l1, l2: λ of the explicit penalties λ Σ|w| and λ Σw², see ``penalty``. Biases and norm layers are excluded from
            them, and from the optimizer's own ``weight_decay`` as well. For SGD, l2 = λ gives the same updates as
            weight_decay = 2λ.
        max_norm: after each update a unit's incoming weights are scaled down to at most this norm (Srivastava et al.
            2014, section 5.1); the head is not constrained. Null sets no limit.
        clip_norm: before each update the gradient of all parameters together is scaled down to at most this norm
            (Pascanu et al. 2013, algorithm 1), unless ``trainer.gradient_clip_val`` is set. Null sets no limit.
        lr_scale: factors of the learning rate by the name or pattern of a layer; the first that matches is taken.
        monitor, mode: see ``Task``.
    """

    model: nn.Module
    monitor: str = "val/loss"
    mode: Literal["max", "min"] = "min"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        l1: NonNegative = 0.0,
        l2: NonNegative = 0.0,
        max_norm: NonNegative | None = None,
        lr_scale: Mapping[str, NonNegative] | None = None,
        monitor: str | None = None,
        mode: Literal["max", "min"] | None = None,
        clip_norm: NonNegative | None = None,
    ):
        super().__init__()
        self.model = model
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.l1, self.l2, self.max_norm, self.clip_norm = l1, l2, max_norm, clip_norm
        self.lr_scale = dict(lr_scale or {})
        self.monitor, self.mode = monitor or self.monitor, mode or self.mode
        self.totals_before: dict[str, Any] | None = None  # ``totals`` as stored in a resumed run's checkpoint

    # --- regularisers ---------------------------------------------------------------------------------------------

    def decayed(self) -> dict[str, nn.Parameter]:
        """The weights that penalties and weight decay act on: trained matrices and kernels, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and p.ndim > 1}

    def penalty(self) -> Tensor | float:
        """λ₁ Σ|w| + λ₂ Σw² over ``decayed()``."""
        total: Tensor | float = 0.0
        if self.l1:
            total = total + self.l1 * sum(w.abs().sum() for w in self.decayed().values())
        if self.l2:
            total = total + self.l2 * sum(w.square().sum() for w in self.decayed().values())
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights and apply ``max_norm``, before weight averages and checkpoints see the new weights."""
        super().optimizer_step(*args, **kwargs)
        self.constrain()

    def constrain(self) -> None:
        """Scale each unit's incoming weights down to norm ``max_norm``, where theirs is greater."""
        if self.max_norm is not None:
            with torch.no_grad():
                heads = tuple(f"{head}." for head in head_names(self.model))
                transposed = [f"{name}.weight" for name, m in self.model.named_modules() if isinstance(m, TRANSPOSED)]
                for name, w in self.decayed().items():
                    if not name.startswith(heads):
                        units = 1 if name in transposed else 0  # the dimension of the outputs
                        w.copy_(w.renorm(p=2, dim=units, maxnorm=self.max_norm))

    # --- optimisation ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.make_optimizer is None:
            raise ZooError("this task was built without an optimizer, so it can only evaluate")
        try:
            optimizer = self.make_optimizer(self.parameter_groups())
        except ValueError as error:  # torch's message: an argument out of range, or unsupported parameters
            raise ZooError(f"optimizer: {error}") from None
        if isinstance(optimizer, torch.optim.SparseAdam) and not gives_sparse(self):
            raise ZooError(
                "optimizer=sparseadam is for sparse gradients, and no layer of this model gives any; try adam"
            )
        scales = [group.pop("lr_scale", 1.0) for group in optimizer.param_groups]
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            group["lr"] *= scale
        if self.make_scheduler is None:
            return optimizer
        scheduler, interval = self.build_scheduler(optimizer, scales)
        settings = {"scheduler": scheduler, "interval": interval}
        if isinstance(scheduler, ReduceLROnPlateau):  # Lightning would step it only after saving the checkpoint
            settings |= {"monitor": None, "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_validation_end(self) -> None:
        """Pass the validation loss to ``scheduler=plateau``, or ``monitor`` for a task that measures no such loss."""
        if self.trainer.sanity_checking:
            return
        measured = self.trainer.callback_metrics
        watched = "val/loss" if "val/loss" in measured else self.monitor
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                if watched not in measured:
                    raise ZooError(
                        f"scheduler=plateau watches val/loss or {self.monitor}, but validation measures neither"
                    )
                config.scheduler.step(measured[watched])

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        if gradient_clip_val is None:
            gradient_clip_val, gradient_clip_algorithm = self.clip_norm, "norm"
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    def parameter_groups(self, wanted: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
        """The trainable parameters whose names satisfy ``wanted``, grouped by their learning-rate factor and by whether
        weight decay applies to them.
        """
        for pattern in self.lr_scale:
            if not any(matches(name, pattern) for name, _ in self.model.named_parameters()):
                raise ZooError(f"task.lr_scale: no parameter fits {pattern!r}; {known_layers(self.model)}")
        decayed = self.decayed()
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, p in self.model.named_parameters():
            if p.requires_grad and wanted(name):
                scale = next((s for pattern, s in self.lr_scale.items() if matches(name, pattern)), 1.0)
                groups.setdefault((scale, name in decayed), []).append(p)
        if not groups:
            raise ZooError("nothing is left to train: init.freeze holds every parameter; freeze fewer layers")
        keywords = keywords_of(self.make_optimizer)
        if not keywords.get("weight_decay"):  # without weight decay the two kinds of groups need no distinction
            merged: dict[float, list[nn.Parameter]] = {}
            for (scale, _), params in groups.items():
                merged.setdefault(scale, []).extend(params)
            return [{"params": params, "lr_scale": scale} for scale, params in merged.items()]
        return [
            {"params": params, "lr_scale": scale, **({} if decays else {"weight_decay": 0.0})}
            for (scale, decays), params in groups.items()
        ]

    def build_scheduler(self, optimizer: Optimizer, scales: list[float]) -> tuple[LRScheduler, str]:
        """The schedule and its interval, "step" or "epoch"; ``scales`` are the learning-rate factors of the groups."""
        assert self.make_scheduler is not None
        keywords = keywords_of(self.make_scheduler)
        totals = self.totals()
        if totals["total_steps"] == float("inf") and "total_steps" in keywords.values():
            raise ZooError("this scheduler needs the run's length: set trainer.max_epochs or trainer.max_steps")
        filled = {key: totals[v] for key, v in keywords.items() if isinstance(v, str) and v in totals}
        if "max_lr" in keywords:  # a schedule that sets its own rates must scale them too
            filled["max_lr"] = [keywords["max_lr"] * scale for scale in scales]
        interval = "step" if "total_steps" in keywords.values() else "epoch"
        return self.make_scheduler(optimizer, **filled), interval  # type: ignore[call-arg]

    def totals(self) -> dict[str, Any]:
        """The length of the run in updates and epochs, by the strings that stand for them in a scheduler's config."""
        return {"total_steps": self.trainer.estimated_stepping_batches, "total_epochs": self.trainer.max_epochs}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["totals"] = self.totals()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.totals_before = checkpoint.get("totals")

    def on_train_start(self) -> None:
        """If a resumed run has a new length, continue its schedule as that of a run of the new length."""
        schedules: Any = self.lr_schedulers()
        schedules = schedules if isinstance(schedules, list) else [schedules]
        if self.totals_before in (None, self.totals()):
            return
        for schedule, scheduler in zip(schedules, self.fresh_schedulers(), strict=False):  # empty without a schedule
            if isinstance(schedule, LRScheduler) and not isinstance(schedule, ReduceLROnPlateau):
                lengthen(schedule, scheduler)

    def fresh_schedulers(self) -> list[Any]:
        """New schedules for a run of the current length, at step 0."""
        fresh = self.configure_optimizers()
        return [fresh["lr_scheduler"]["scheduler"]] if isinstance(fresh, dict) else []


def keywords_of(make: Callable | None) -> dict[str, Any]:
    """The keyword arguments stored in a ``functools.partial``; empty for any other callable."""
    return make.keywords if isinstance(make, partial) else {}


def made_by(make: Callable | None) -> Callable | None:
    """The class or function that builds an optimizer or a schedule; of a ``functools.partial``, the one inside it."""
    return make.func if isinstance(make, partial) else make


def gives_sparse(task: nn.Module) -> bool:
    """Whether any layer gives sparse gradients."""
    return any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.sparse for m in task.modules())


def lengthen(schedule: LRScheduler, fresh: Any) -> None:
    """Bring a schedule and its optimizer into the state that a fresh schedule has after the same number of steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about scheduler steps without optimizer steps
        for _ in range(schedule.last_epoch):
            fresh.step()
    schedule.load_state_dict(fresh.state_dict())
    for group, new in zip(schedule.optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
        group.update({key: value for key, value in new.items() if key != "params"})


def known_layers(model: nn.Module) -> str:
    """A phrase for error messages that lists the layers with parameters."""
    names = dict.fromkeys(re.sub(r"\.[^.]+$", "", name) for name, _ in model.named_parameters())
    return f"layers with parameters: {', '.join(names)}"
