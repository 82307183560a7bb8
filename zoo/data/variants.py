"""Variants of a set of images: some of its classes, some of its labels, and pixels that are 0 or 1."""

import torch
from torch import Tensor

from zoo.errors import ZooError


def kept(data: dict[str, Tensor], split: str, classes: list[int]) -> dict[str, Tensor]:
    """The images and labels of a split that are of these classes, which are then 0, 1, 2 …"""
    images, labels = data[f"{split}_images"], data[f"{split}_labels"]
    new = torch.full((int(labels.max()) + 1,), -1)
    new[classes] = torch.arange(len(classes))
    some = new[labels] >= 0
    return {f"{split}_images": images[some], f"{split}_labels": new[labels[some]]}


def few(labels: Tensor, train: Tensor, num_classes: int, n: int, seed: int) -> Tensor:
    """The places of n training images of each class, drawn with a seed, in ascending order.

    Args:
        labels: of all images.
        train: the places of the training images among them.

    Raises:
        ZooError: a class has fewer than n.
    """
    shuffled = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))]
    found = [shuffled[labels[shuffled] == c][:n] for c in range(num_classes)]
    if (least := min(map(len, found))) < n:
        raise ZooError(f"data.labels_per_class={n}: a class has only {least} training images; give that or less")
    return torch.cat(found).sort().values


def binary(images: Tensor, seed: int) -> Tensor:
    """Images with pixels of 0 and 255 alone: one is 255 with the probability brightness / 255, drawn from a seed.

    The seeds are 0 for the official training split of a set, and 1 for its test split.
    """
    generator, drawn = torch.Generator().manual_seed(seed), torch.empty_like(images)
    for start in range(0, len(images), 1000):  # a few at a time, to save memory; the draws are the same
        part = images[start : start + 1000]
        chance = torch.randint(255, part.shape, generator=generator, dtype=torch.uint8)
        drawn[start : start + 1000] = (chance < part).to(torch.uint8) * 255
    return drawn
