"""TensorBoard callbacks for generative models: reconstructions, samples from fixed noise, and the latent space."""

from typing import Any

import torch
from lightning import Trainer
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from zoo.arguments import Positive
from zoo.callbacks.picture import OnValidation
from zoo.contracts import Generator, OfImages, PixelByPixel, Reconstructs, Variational
from zoo.tasks.loop import logged_step
from zoo.use.pictures import pixels, with_labels


class OfMadeImages(OnValidation):
    """The base class of callbacks that show images made by a model."""

    every_epoch = True

    def images(self, trainer: Trainer, task: Any, n: int) -> Tensor:
        """The first n images of the validation split, or of the training split if there is none: (n, C, H, W)."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return data.sample(n, "val" if data.val_size else "train")[0].to(task.device)


class Reconstructions(OfMadeImages):
    """Inputs in the upper row, their reconstructions in the lower row. For a denoising model a row of corrupted inputs
    stands between the two, and the lower row shows the reconstructions of those.

    Args:
        most: the number of images.
    """

    def __init__(self, most: Positive = 16):
        self.most = most

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task, Reconstructs) and isinstance(data, OfImages)

    @torch.no_grad()
    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        x = self.images(trainer, task, self.most)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = [x, model(x)]
        torch.manual_seed(0)
        if (noisy := task.corrupted(x)) is not None:
            rows = [x, noisy, model(noisy)]
        grid = make_grid(torch.cat([pixels(row.float(), data.preprocess) for row in rows]), nrow=len(x), padding=1)
        names = ["input", *(["corrupted"] if noisy is not None else []), "reconstruction"]
        writer.add_image("reconstructions", with_labels(grid.clamp(0, 1).cpu(), names), logged_step(trainer))


class SampleGrid(OfMadeImages):
    """Samples of the model, always from the same random numbers.

    Args:
        most: the number of images; a model that draws pixel by pixel shows 16 at most, as it is slow.
    """

    def __init__(self, most: Positive = 64):
        self.most = most

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task.model, Generator) and isinstance(data, OfImages)

    @torch.no_grad()
    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        slow = isinstance(model, PixelByPixel)
        most = min(self.most, 16) if slow else self.most
        drawn = model.sample(most, generator=torch.Generator().manual_seed(0))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        grid = make_grid(pixels(drawn.float(), data.preprocess), nrow=max(1, round(len(drawn) ** 0.5)), padding=1)
        writer.add_image("samples", grid, logged_step(trainer))


class Latent(OfMadeImages):
    """The latent space of a variational autoencoder.

    "latent/traversal" has a row for each of the first eight latent dimensions: images decoded from codes in which this
    dimension goes from −3 to 3 and all others are 0. "latent/map" shows the codes of images, coloured by label, in the
    two latent dimensions or, if there are more, along their two directions of greatest variance.
    """

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task.model, Variational) and isinstance(data, OfImages)

    @torch.no_grad()
    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        size = model.latent
        rows = []
        for i in range(min(8, size)):
            z = torch.zeros(13, size, device=task.device)
            z[:, i] = torch.linspace(-3, 3, 13)
            rows.append(model.decode(z))
        grid = make_grid(torch.cat(rows).float().clamp(0, 1), nrow=13, padding=1)
        dimensions, steps = [f"z{i + 1}" for i in range(len(rows))], [f"{z:g}" for z in torch.linspace(-3, 3, 13)]
        writer.add_image("latent/traversal", with_labels(grid.cpu(), dimensions, steps), logged_step(trainer))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        x, labels = data.sample(2000, "val" if data.val_size else "train")
        codes = model.encode(x.to(task.device)).cpu()
        if size > 2:  # the two directions of greatest variance
            centred = codes - codes.mean(0)
            codes = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -2:].flip(1)
        figure = Figure(figsize=(5, 4.5), dpi=100, layout="tight")
        axes = figure.subplots()
        if size == 1:
            codes = torch.cat([codes, torch.zeros_like(codes)], 1)
        points = axes.scatter(*codes.T.tolist(), c=labels.tolist(), s=4, cmap="tab10")
        figure.colorbar(points, label="class")
        kind = "latent dimension" if size <= 2 else "direction of variance"
        axes.set(xlabel=f"{kind} 1", ylabel=f"{kind} 2", title=f"codes of {len(x):,} images")
        writer.add_figure("latent/map", figure, logged_step(trainer), close=False)
