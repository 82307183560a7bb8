"""Variants of an image data set: with some of its classes, with few labels, and with binary pixels."""

import torch
from torch import Tensor

from zoo.errors import ZooError


def kept(data: dict[str, Tensor], split: str, classes: list[int]) -> dict[str, Tensor]:
    """The images and labels of these classes in a split; the classes are renumbered 0, 1, 2 … in the given order."""
    images, labels = data[f"{split}_images"], data[f"{split}_labels"]
    new = torch.full((int(labels.max()) + 1,), -1)
    new[classes] = torch.arange(len(classes))
    some = new[labels] >= 0
    return {f"{split}_images": images[some], f"{split}_labels": new[labels[some]]}


def few(labels: Tensor, train: Tensor, num_classes: int, n: int, seed: int) -> Tensor:
    """Draw n training images of each class; returns their indices in ascending order.

    Args:
        labels: the labels of all images.
        train: the indices of the training images.
        num_classes: number of classes.
        n: number of images per class.
        seed: seed for the draw.

    Raises:
        ZooError: a class has fewer than n training images.
    """
    shuffled = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))]
    found = [shuffled[labels[shuffled] == c][:n] for c in range(num_classes)]
    if (least := min(map(len, found))) < n:
        raise ZooError(f"data.labels_per_class={n}: a class has only {least} training images; give that or less")
    return torch.cat(found).sort().values


def binary(images: Tensor, seed: int) -> Tensor:
    """Binarise images: each pixel becomes 255 with probability brightness / 255, and 0 otherwise.

    Seed 0 is used for the official training split of a data set, and seed 1 for its test split.
    """
    generator, drawn = torch.Generator().manual_seed(seed), torch.empty_like(images)
    for start in range(0, len(images), 1000):  # in parts, to save memory; their size does not change the draws
        part = images[start : start + 1000]
        chance = torch.randint(255, part.shape, generator=generator, dtype=torch.uint8)
        drawn[start : start + 1000] = (chance < part).to(torch.uint8) * 255
    return drawn
