"""Generative adversarial networks (lecture 16.7): a generator learns to make images that pass for real ones."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.arguments import Inherited
from zoo.contracts import Pair, require
from zoo.errors import ZooError
from zoo.pretrained.measures import Comparison, judge_named
from zoo.tasks.loop import batch_step
from zoo.tasks.optimised import made_by
from zoo.tasks.task import Task

PLAYERS = ("generator", "discriminator")


class Adversarial(Task):
    """Train a generator against a discriminator, each with an optimizer and a schedule of its own.

    "gan" is the game of Goodfellow et al. 2014 with the generator's loss −log D(G(z)), whose gradient does not vanish
    when the discriminator is sure (their section 3); "wgan_gp" minimises the Wasserstein distance with a gradient
    penalty (Gulrajani et al. 2017, algorithm 1).

    Measures ``fid``, the Fréchet distance between the images of the validation or test set and as many samples, in the
    features of the classifier ``judge``, and the other measures of ``zoo.pretrained.measures``. Samples are drawn from
    fixed seeds. ``trainer.max_steps`` counts the updates of generator and discriminator together.

    Args:
        model: a model with ``generate``, ``judge``, ``sample`` and ``latent``, as those of ``zoo.models.gan``.
        loss: "gan" or "wgan_gp".
        critic_steps: the number of discriminator updates per generator update.
        smoothing: one-sided label smoothing: the discriminator's target for real images is 1 − smoothing (Salimans et
            al. 2016, section 3.4). Used with "gan" only.
        penalty_weight: λ of the gradient penalty, used with "wgan_gp" only.
        discriminator_lr: the discriminator's learning rate as a multiple of the generator's.
        judge: the name of a shipped classifier of such images, whose features and classes are used to measure samples;
            or "inception", the network of published Fréchet distances, which gives features but no classes; null
            measures nothing.
        shared: see ``Task``; l1, l2 and max_norm are not allowed, and clip_norm is applied to each network separately.
    """

    single_process_only = True
    calls_forward = False
    calls = ("generate", "judge")
    monitor = "val/fid"

    def __init__(
        self,
        model: nn.Module,
        loss: Literal["gan", "wgan_gp"] = "gan",
        critic_steps: int = 1,
        smoothing: float = 0.0,
        penalty_weight: float = 10.0,
        discriminator_lr: float = 1.0,
        judge: str | None = None,
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        if self.l1 or self.l2 or self.max_norm:
            raise ZooError("task=adversarial takes no l1, l2 or max_norm, which are for a single loss")
        self.automatic_optimization = False
        if loss not in ("gan", "wgan_gp"):
            raise ZooError(f"task.loss={loss} is unknown; valid: gan, wgan_gp")
        if critic_steps < 1 or not 0 <= smoothing < 1:
            raise ZooError(
                f"task.critic_steps={critic_steps}, task.smoothing={smoothing}: give critic_steps of 1 or more, and "
                f"smoothing from 0 to less than 1"
            )
        self.loss, self.critic_steps, self.smoothing = loss, critic_steps, smoothing
        if loss == "wgan_gp":
            self.calls = ("generate",)  # torch.compile lacks the second derivatives of ``judge`` that the penalty needs
        self.penalty_weight, self.discriminator_lr = penalty_weight, discriminator_lr
        self.judge = judge_named(judge) if judge else None
        self.measured = judge is not None
        self.comparison: Comparison | None = None

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` if the model is not a generator and a discriminator; called once, before training."""
        require(self.model, Pair, "task=adversarial", "choose a model such as gan")
        if x.min() < 0 or x.max() > 1:
            raise ZooError(
                "task=adversarial takes pixels in [0, 1]: set data.mean=[0.0] and data.std=[1.0], a value per channel"
            )
        if others := [name for name, _ in self.model.named_parameters() if name.partition(".")[0] not in PLAYERS]:
            raise ZooError(
                f"task=adversarial trains the parameters of model.generator and model.discriminator only, and "
                f"{others[0]} is in neither; move it into one of them"
            )
        norms = [m for m in self.model.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]
        if self.loss == "wgan_gp" and norms:
            raise ZooError("task.loss=wgan_gp does not allow batch norm in the discriminator: set model.norm=none")
        if self.judge:
            self.judge.check(x)

    # --- optimisation ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.make_optimizer is None:
            raise ZooError("this task was built without an optimizer, so it can only evaluate")
        if made_by(self.make_optimizer) is torch.optim.LBFGS:
            raise ZooError("optimizer=lbfgs minimises a single loss, but task=adversarial has two; try optimizer=adam")
        if made_by(self.make_scheduler) is ReduceLROnPlateau:
            raise ZooError(
                "scheduler=plateau waits until a loss stops falling, and a GAN's need not fall; try scheduler=none"
            )
        optimizers, schedulers = [], []
        for player, factor in zip(PLAYERS, (1.0, self.discriminator_lr), strict=True):
            groups = self.parameter_groups(lambda name, player=player: name.startswith(player))
            scales = [group.pop("lr_scale", 1.0) * factor for group in groups]
            try:
                optimizer = self.make_optimizer(groups)
            except ValueError as error:  # torch's own message: an argument is out of range
                raise ZooError(f"optimizer: {error}") from None
            for group, scale in zip(optimizer.param_groups, scales, strict=True):
                group["lr"] *= scale
            optimizers.append(optimizer)
            if self.make_scheduler is not None:
                scheduler, interval = self.build_scheduler(optimizer, scales)
                schedulers.append({"scheduler": scheduler, "interval": interval})
        return optimizers, schedulers

    def fresh_schedulers(self) -> list[Any]:
        return [settings["scheduler"] for settings in self.configure_optimizers()[1]]

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.trainer.num_training_batches < self.critic_steps:
            raise ZooError(f"task.critic_steps={self.critic_steps} is more than an epoch has batches; give fewer")

    def totals(self) -> dict[str, Any]:
        """The length of the run in generator updates, which both learning-rate schedules follow."""
        totals = super().totals()
        updates = totals["total_steps"] // self.critic_steps
        if (most := self.trainer.max_steps) > 0:  # type: ignore[attr-defined]  it counts the updates of both players
            updates = min(updates, most // (self.critic_steps + 1))
        return {**totals, "total_steps": max(1, updates)}

    def update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.clip_norm:
            self.clip_gradients(optimizer, self.clip_norm, "norm")
        optimizer.step()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, labels = batch
        model: Any = self.model
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        # how many of the discriminator's decisions in this epoch were right, and how many there were in all
        if batch_idx == 0 or self.carried is None:  # a run resumed within an epoch keeps its counts
            self.carried = torch.zeros(2, device=x.device)

        self.toggle_optimizer(optimizer_d)
        z = torch.randn(len(x), model.latent, device=x.device)
        fake = model.generate(z, labels).detach()
        real_score, fake_score = model.judge(x, labels).float(), model.judge(fake, labels).float()
        penalty = None
        if self.loss == "gan":
            wanted = torch.full_like(real_score, 1 - self.smoothing)
            loss_d = F.binary_cross_entropy_with_logits(real_score, wanted) + F.softplus(fake_score).mean()
        else:
            penalty = gradient_penalty(model, x, fake, labels)
            loss_d = fake_score.mean() - real_score.mean() + self.penalty_weight * penalty
        self.update(optimizer_d, loss_d)
        self.untoggle_optimizer(optimizer_d)
        right = (real_score > 0).sum() + (fake_score < 0).sum()
        self.carried = self.carried + torch.stack([right, torch.full_like(right, 2 * len(x))])

        loss_g = None
        if (batch_idx + 1) % self.critic_steps == 0:
            self.toggle_optimizer(optimizer_g)
            z = torch.randn(len(x), model.latent, device=x.device)
            score = model.judge(model.generate(z, labels), labels).float()
            loss_g = F.softplus(-score).mean() if self.loss == "gan" else -score.mean()
            self.update(optimizer_g, loss_g)
            self.untoggle_optimizer(optimizer_g)
            self.step_schedules("step")

        self.log_training(discriminator_loss=loss_d, discriminator_accuracy=right / (2 * len(x)))
        if penalty is not None:
            self.log_training(gradient_penalty=penalty)
        if loss_g is not None:
            self.log_generator(loss_g.detach())
        if batch_idx + 1 == self.trainer.num_training_batches:
            self.step_schedules("epoch")
            self.check_game()

    def log_generator(self, loss: Tensor) -> None:
        """Log the generator's loss at its first update at or after each logged step, under the step of that update.

        ``self.log`` would repeat the last value at the logged steps at which the generator is not updated.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        stepped = batch_step(self.trainer)
        if (stepped + 1) // every > (stepped + 1 - self.critic_steps) // every:
            self.log("train/generator_loss", loss, prog_bar=True, logger=False)
            for logger in self.trainer.loggers:
                logger.log_metrics({"train/generator_loss": loss.item()}, step=stepped)

    def step_schedules(self, interval: str) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval:
                config.scheduler.step()  # type: ignore[call-arg]

    def check_game(self) -> None:
        """Raise a ``ZooError`` if the discriminator was right on every image of an epoch: then the generator gets no
        useful gradient.
        """
        right, total = self.carried.tolist()
        if self.loss == "gan" and right == total:
            raise ZooError(
                f"the discriminator was right on all {int(total):,} images of epoch {self.current_epoch + 1} (to step "
                f"{self.trainer.global_step}), so the generator gets no useful gradient; the checkpoint of the epoch "
                f"before is kept. Try a lower task.discriminator_lr, task.smoothing=0.1, or task.loss=wgan_gp"
            )

    # --- measures -------------------------------------------------------------------------------------------------

    def start_measuring(self, part: str) -> None:
        if self.judge is not None:
            seed = {"val": 0, "test": 1}[part]
            self.comparison = Comparison(self.judge, torch.Generator().manual_seed(seed))

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        if self.comparison is not None:
            self.comparison.update(batch[0], self.model)

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        comparison, self.comparison = self.comparison, None
        if comparison is None:
            return {}
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if part == "test":
            return comparison.all(data)
        return {"fid": comparison.fid(), **comparison.coverage(data.num_classes)}


def gradient_penalty(model: Any, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
    """E (‖∇ D(x̂)‖ − 1)² at random points x̂ between real and generated images (Gulrajani et al. 2017, equation 3)."""
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(model.judge(between, labels).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
