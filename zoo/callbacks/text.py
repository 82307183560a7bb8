"""TensorBoard callbacks for recurrent language models: sampled text, gradients through time, and gate activations."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Trainer
from matplotlib.figure import Figure
from torch import Tensor

from zoo.callbacks.picture import OnValidation
from zoo.contracts import OfText
from zoo.data.tokens import Characters
from zoo.models.backends import gates
from zoo.models.recurrent import Recurrent
from zoo.tasks.language import Language
from zoo.tasks.loop import logged_step
from zoo.use.sample import encoded_prompt, sample, text_of


class OfLanguage(OnValidation):
    """The base class of callbacks for recurrent language models and taggers that read tokens."""

    def fits(self, task: Any, data: Any) -> bool:
        model = task.model
        return isinstance(model, Recurrent) and model.embedding is not None and isinstance(task, Language)


class Samples(OfLanguage):
    """Text that the model generates after some prompts, always with the same random numbers.

    Args:
        prompts: texts to continue.
        length: the number of tokens generated after each.
        temperature: 1 draws as the model predicts, 0 takes the most probable token.
    """

    def __init__(self, prompts: Sequence[str], length: int = 300, temperature: float = 0.8):
        self.prompts, self.length, self.temperature = list(prompts), length, temperature

    def fits(self, task: Any, data: Any) -> bool:
        return super().fits(task, data) and isinstance(data, OfText)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Recurrent) -> None:
        tokenizer: Any = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        for i, prompt in enumerate(self.prompts):
            tokens = encoded_prompt(tokenizer, prompt, strict=False).to(task.device)
            forbidden = [] if tokenizer.unknown is None else [tokenizer.unknown]
            drawn = sample(model, tokens, self.length, self.temperature, forbidden=forbidden, seed=i)
            text = prompt + "".join(text_of(tokenizer, drawn))
            lines = "".join(f"    {line}\n" for line in text.splitlines())  # a block of code, in Markdown
            writer.add_text(f"samples/{prompt.strip() or 'start'}", lines, logged_step(trainer))


class ThroughTime(OfLanguage):
    """The gradient norm of the last step's loss with respect to the input of each step (lecture 16.6)."""

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Recurrent) -> None:
        x, y = trainer.datamodule.sample(8, "val")  # type: ignore[attr-defined]
        norms = through_time(model, x.to(task.device), y.to(task.device))
        figure = Figure(figsize=(6, 3.4), dpi=100, layout="tight")
        axes = figure.subplots()
        axes.semilogy(range(len(norms) - 1, -1, -1), norms.clamp(min=1e-30).tolist())
        axes.set(xlabel="steps back", ylabel="‖∂ loss of a step / ∂ input‖", title="gradient through time")
        axes.grid(alpha=0.3)
        writer.add_figure("gradient/through_time", figure, logged_step(trainer), close=False)


def through_time(model: Recurrent, x: Tensor, y: Tensor) -> Tensor:
    """‖∂ℓ_T / ∂x_t‖ for t = 1 … T, averaged over a batch: tokens and targets (B, T) -> (T,).

    ℓ_T is the loss of the last step, x_t the embedded input of step t.
    """
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's layers have no backward in eval mode
        read = model.embed(x).detach().requires_grad_()
        features, _ = model.trunk(read)
        loss = F.cross_entropy(model.head(features[:, -1]).float(), y[:, -1], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, read)  # (B, T, E)
    return gradient.norm(dim=2).mean(0).cpu()


class Gates(OfLanguage):
    """The gate activations of the first layer over some text: one row per unit, one column per step, white for open.

    Args:
        steps: the number of steps shown.
        units: the number of units shown, the first ones of the layer.
    """

    def __init__(self, steps: int = 96, units: int = 48):
        self.steps, self.units = steps, units

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Recurrent) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        x = data.sample(1, "val")[0][:, : self.steps].to(task.device)
        found = gates(model.layers[0].directions[0], model.embed(x))  # type: ignore[index]
        figure = Figure(figsize=(10, 2.6 * len(found)), dpi=80, layout="tight")
        low = -1.0 if "h" in found else 0.0  # the simple RNN has no gate, and shows its state
        for axes, (name, values) in zip(figure.subplots(len(found), squeeze=False)[:, 0], found.items(), strict=True):
            axes.imshow(values.T[: self.units].float().cpu().numpy(), cmap="gray", vmin=low, vmax=1, aspect="auto")
            axes.set(ylabel=f"{name}, units", yticks=[], xlabel="step", title=f"{name}: {low:.0f} black, 1 white")
            if isinstance(data, OfText) and isinstance(data.tokenizer, Characters):
                axes.set_xticks(range(x.shape[1]), [data.tokenizer.decode([t]) for t in x[0].tolist()], fontsize=6)
        writer.add_figure("gates/first_layer", figure, logged_step(trainer), close=False)
