"""Makes data/cifar10_small/: the first 500 training and 100 test images of each class of CIFAR-10, as two sheets.

A sheet holds the classes one after the other, in official order within a class, 100 images of 32×32 pixels across.
Run it as ``python data/make_cifar10_small.py``; it fetches CIFAR-10 if it is not there.
"""

from pathlib import Path

import torch
from PIL import Image

from zoo.data import sources

if __name__ == "__main__":
    cifar10 = sources.load("cifar10")
    folder = Path(__file__).parent / "cifar10_small"
    folder.mkdir(exist_ok=True)
    for split, n in (("train", 500), ("test", 100)):
        labels = cifar10[f"{split}_labels"]
        chosen = torch.cat([(labels == c).nonzero()[:n, 0] for c in range(10)])
        tiles = cifar10[f"{split}_images"][chosen].view(-1, 100, 32, 32, 3)  # (rows, columns, 32, 32, 3)
        sheet = tiles.transpose(1, 2).reshape(-1, 3200, 3)
        Image.fromarray(sheet.numpy()).save(folder / f"{split}.png", optimize=True)
