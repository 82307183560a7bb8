"""A folder of the user's own images, in which the name of an image's folder is its class.

The layout is ``ROOT/train/CLASS/*.jpg`` with ``ROOT/test/CLASS/`` and ``ROOT/val/CLASS/``, or ``ROOT/CLASS/*.jpg``
alone; splits without a folder are taken from the training images. The images are read once, into one tensor that stays
in the user's cache until a file changes.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.data.augment import Augment
from zoo.data.decoded import beginning, check_memory, read_images
from zoo.data.files import Listing, carve, list_images
from zoo.data.image_file import image_content
from zoo.data.images import ImageData
from zoo.data.layout import class_names
from zoo.data.preprocess import Preprocess
from zoo.data.variants import few
from zoo.errors import ZooError
from zoo.terminal import say

IMAGENET = 256 / 224  # short side / side of the square that is cut out, for most of torchvision's weights


class FolderData(ImageData):
    """Labelled images in folders, scaled and cropped to squares.

    The classes are the sorted names of the folders. An image's short side is scaled to ``resize`` pixels and the
    central square of ``image_size`` pixels is cut out, in training as in prediction; if ``resize`` equals
    ``image_size``, nothing is cut off along the short side. All else is as in ``ImageData``.

    Args:
        root: the folder.
        num_classes: the number of classes; ``configs/data/image_folder.yaml`` counts them.
        in_channels: 3, or 1 for grey images.
        image_size: side in pixels of the square that a model gets.
        resize: pixels that the short side is scaled to before; null means image_size · 256 / 224.
        mean, std: mean and standard deviation of each channel, for pixels in [0, 1]; for pretrained weights use those
            that they were trained with.
        val_size: the share of each class that is held out for validation if there is no ROOT/val; 0 trains on all
            images except the test images.
        test_size: the share of each class that is held out for the test if there is no ROOT/test; above 0.
        split_seed: seed that selects those shares. Images that are added later move some of the others to another
            split, so a model trained before must not be tested on the new splits.

    Raises:
        ZooError: there is no such folder, it has fewer than two classes, a class has no images, a file is not an
            image, or the images would take more than half of this machine's memory.
    """

    root: Path | None

    def __init__(
        self,
        root: str | None,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 224,
        resize: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        batch_size: int | str = 32,
        eval_batch_size: Positive = 128,
        val_size: float = 0.15,
        test_size: float = 0.15,
        labels_per_class: Positive | None = None,
        augment: Augment | None = None,
        seed: Seed = 0,
        split_seed: Seed = 0,
        name: str = "image_folder",
    ):
        if in_channels not in (1, 3):
            raise ZooError(
                f"data.in_channels={in_channels} is not valid: images are read as 3 channels, or as 1 (grey)"
            )
        if image_size < 1:
            raise ZooError(f"data.image_size={image_size} is not valid: give a positive number")
        if resize is not None and resize < image_size:
            raise ZooError(f"data.resize={resize} is not valid: give data.image_size={image_size} or more, or null")
        super().__init__(
            name, num_classes, in_channels, image_size, mean, std, batch_size, eval_batch_size,
            labels_per_class=labels_per_class, augment=augment, seed=seed, split_seed=split_seed, root=root,
        )  # fmt: skip
        if not 0 <= val_size < 1:
            raise ZooError(f"data.val_size={val_size} is not valid: give a share of each class, 0 to less than 1")
        if not 0 < test_size < 1:
            raise ZooError(f"data.test_size={test_size} is not valid: give a share of each class, between 0 and 1")
        self.shares = {"test": test_size, "val": val_size}
        self.val_size = val_size  # type: ignore[assignment]  whether there is a validation
        self.preprocess = Preprocess(image_size, list(mean), list(std), resize or round(image_size * IMAGENET))
        if len(self.classes) != num_classes:
            raise ZooError(
                f"data.num_classes={num_classes}, but {root} has {len(self.classes)} classes "
                f"({', '.join(self.classes[:6])}{', …' if len(self.classes) > 6 else ''}); leave it as it is"
            )
        self.listing = Listing()
        self.digests: dict[str, str] = {}

    def class_names(self) -> list[str]:
        return class_names(self.root)

    def prepare_data(self) -> None:
        """Fill the cache unless it holds these images already, and print which files are left out."""
        if self.splits:
            return
        assert self.root is not None  # class_names has raised otherwise
        files = self._list()
        images = self.listing.images
        self._read(files)
        for line in (
            self.listing.left_out(self.root), differ_in_case(self.classes), without_images(images, self.classes)
        ):  # fmt: skip
            if line:
                say(line)

    def setup(self, stage: str | None = None) -> None:
        """Load the images into memory and split them."""
        if self.splits:
            return
        assert self.root is not None
        files = self._list()
        (images, digests), place = self._read(files), {file: i for i, file in enumerate(files)}
        hexed = (bytes(row).hex() for row in digests.tolist())
        self.digests = {str(file.relative_to(self.root)): digest for file, digest in zip(files, hexed, strict=True)}
        labels = torch.tensor([label for part in self.listing.images.values() for _, label in part])
        parts = carve(self.listing.images, self.shares, self.split_seed, self.classes)
        self.example = parts["test"][0][0]
        if line := alike(parts, self.digests, self.root):
            say(line)
        for split, part in parts.items():
            index = torch.tensor([place[file] for file, _ in part], dtype=torch.int64)
            if split == "train" and self.labels_per_class is not None:
                index = few(labels, index, self.num_classes, self.labels_per_class, self.seed)
            self.splits[split] = images[index], labels[index]

    def _list(self) -> list[Path]:
        assert self.root is not None
        self.listing = list_images(self.root, self.classes)
        return [file for part in self.listing.images.values() for file, _ in part]

    def _read(self, files: list[Path]) -> tuple[Tensor, Tensor]:
        assert self.root is not None
        check_memory(len(files), self.preprocess, self.root)
        return read_images(files, self.root, self.preprocess)

    def contents(self) -> dict[str, str]:
        """The beginning of each image file's sha256, by its path relative to the folder."""
        return self.digests

    def summary(self) -> str:
        """One line: the sizes of the splits, and which of them were carved from the training images."""
        names = {"val": "validation", "test": "test"}
        carved = " and ".join(names[s] for s in names if self.shares[s] and not self.listing.images[s])
        said = f" ({carved} carved from the training images, split_seed {self.split_seed})" if carved else ""
        return f"{super().summary()} of {self.num_classes} classes in {self.root}{said}"

    def save_example(self, folder: Path) -> Path:
        """Copy the file of a test image, which ``zoo predict`` preprocesses as the test does.

        If the file has been removed or changed since, write the image from memory instead.
        """
        path = folder / f"example{self.example.suffix}"
        try:
            content = image_content(self.example)
        except ZooError:
            return super().save_example(folder)
        if beginning(content).hex() != self.digests[str(self.example.relative_to(self.root or ""))]:
            return super().save_example(folder)
        path.write_bytes(content)
        return path


def differ_in_case(names: Sequence[str]) -> str | None:
    """A note about classes whose names differ only in case, which may be one class; single letters may be meant."""
    lower: dict[str, list[str]] = {}
    for name in names:
        lower.setdefault(name.lower(), []).append(name)
    alike = [" and ".join(same) for name, same in lower.items() if len(same) > 1 and len(name) > 1]
    return f"note: {', '.join(alike)} are separate classes, although their names differ only in case" if alike else None


def without_images(images: dict[str, list[tuple[Path, int]]], classes: Sequence[str]) -> str | None:
    """A note about classes without images in a split that has a folder of its own."""
    missing = {
        split: [name for label, name in enumerate(classes) if label not in {own for _, own in part}]
        for split, part in images.items() if part
    }  # fmt: skip
    said = [f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''} in {s}" for s, names in missing.items() if names]
    return f"note: there are no images of {' and of '.join(said)}" if said else None


def alike(parts: dict[str, list[tuple[Path, int]]], digests: dict[str, str], root: Path) -> str | None:
    """A note about files of the same content in several classes, or in several splits, where a model would be measured
    on images that it has been trained on.
    """
    places: dict[str, dict[tuple[str, int], str]] = {}
    for split, part in parts.items():
        for path, label in part:
            name = str(path.relative_to(root))
            places.setdefault(digests[name], {}).setdefault((split, label), name)
    same = [" and ".join(names.values()) for names in places.values() if len(names) > 1]
    if not same:
        return None
    more = f", … ({len(same):,} in all)" if len(same) > 3 else ""
    return f"note: images with the same content are in several parts or classes: {', '.join(same[:3])}{more}"
