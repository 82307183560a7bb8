"""Labelled image data sets: whole tensors in memory, split once, augmented and normalised on the device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.data import sources
from zoo.data.augment import Augment
from zoo.data.base import MemoryData
from zoo.data.loader import BatchLoader, Loader, MixedLoader
from zoo.data.preprocess import Fit, Preprocess
from zoo.data.variants import binary, few, kept
from zoo.errors import ZooError


class ImageData(MemoryData):
    """A data set of labelled images.

    The validation split is taken from the official training split with ``split_seed``, so it is the same for every
    run. The official test split is used only by ``test``.

    Its many arguments are the keys of a data config, one each, so that every one can be set on the command line.

    Args:
        name: one of ``zoo.data.sources.SOURCES``.
        num_classes, in_channels, image_size: properties of the data set, which determine the sizes of the model; they
            are compared with the data.
        mean, std: mean and standard deviation of each channel, for pixels in [0, 1].
        batch_size: examples per update, over all processes; "full" takes the whole training split (gradient descent).
        eval_batch_size: examples per batch in validation and test.
        val_size: number of images held out for validation; 0 trains on all of them.
        labels_per_class: train on only this many images of each class, drawn with ``seed``; None takes all.
        keep: use only the classes with these numbers, and renumber them in this order; None takes all classes.
        unlabelled: number of unlabelled images added to each training batch, for ``task=semi``. They come from the
            whole training split, whatever ``labels_per_class`` is. A training batch is then (x, y, u, v), where u and v
            are two independently augmented views of the unlabelled images. ``flip=alternate`` then mirrors at random.
        augment: augmentation of the training images.
        strong: augmentation of the view v of unlabelled images; None means ``augment``.
        binarise: set each pixel to 1 with a probability equal to its brightness, and otherwise to 0. "fixed" draws
            once, from published seeds (see ``binary``); "stochastic" draws training images anew each time, and
            validation and test images like "fixed"; "none" leaves the pixels as they are. Results with "fixed" and
            with "stochastic" cannot be compared.
        seed: seed for the order of the batches and for ``labels_per_class``.
        split_seed: seed for the validation split.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.
        fit: how pictures of any size become images like these, for ``zoo predict``; see ``Preprocess``. None means the
            rule of the data set: "digits" for MNIST, "garment" for Fashion-MNIST, and "resize" for others.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int | str = 128,
        eval_batch_size: Positive = 1024,
        val_size: int = 5000,
        labels_per_class: Positive | None = None,
        keep: Sequence[int] | None = None,
        unlabelled: int = 0,
        augment: Augment | None = None,
        strong: Augment | None = None,
        binarise: Literal["none", "fixed", "stochastic"] = "none",
        seed: Seed = 0,
        split_seed: Seed = 0,
        root: str | None = None,
        fit: Fit | None = None,
    ):
        super().__init__()
        if not (batch_size == "full" or (isinstance(batch_size, int) and batch_size > 0)):
            raise ZooError(f'data.batch_size={batch_size} is not valid: give a positive number, or "full"')
        if eval_batch_size < 1:
            raise ZooError(f"data.eval_batch_size={eval_batch_size} is not valid: give a positive number")
        if labels_per_class is not None and labels_per_class < 1:
            raise ZooError(f"data.labels_per_class={labels_per_class} is not valid: give a positive number, or null")
        if not len(mean) == len(std) == in_channels:
            raise ZooError(
                f"data.mean and data.std hold {len(mean)} and {len(std)} values: give one per channel ({in_channels})"
            )
        if binarise not in ("none", "fixed", "stochastic"):
            raise ZooError(f"data.binarise={binarise} is unknown; valid: none, fixed, stochastic")
        if binarise != "none" and (set(mean), set(std)) != ({0.0}, {1.0}):
            raise ZooError(f"data.binarise={binarise} needs pixels in [0, 1]: set data.mean=[0.0] and data.std=[1.0]")
        self.binarise = binarise
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.num_classes = num_classes
        self.in_channels, self.image_size = in_channels, image_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size, self.labels_per_class = val_size, labels_per_class
        self.unlabelled, self.augment, self.strong = unlabelled, augment, strong
        if unlabelled < 0:
            raise ZooError(f"data.unlabelled={unlabelled} is not valid: give 0 or more")
        mixed = any(change and (change.mixup or change.cutmix) for change in (augment, strong))
        if unlabelled and (mixed or binarise == "stochastic"):
            raise ZooError("data.unlabelled takes no mixup, no cutmix and no data.binarise=stochastic: switch them off")
        self.seed, self.split_seed = seed, split_seed
        self.root = Path(root).expanduser() if root else None
        self.preprocess = Preprocess(image_size, list(mean), list(std), fit=fit or own_fit(name))
        self.classes = self.class_names()
        self.keep = None if keep is None else list(keep)
        if self.keep is not None:
            if len(set(self.keep)) != len(self.keep) or not set(self.keep) <= set(range(len(self.classes))):
                raise ZooError(
                    f"data.keep={self.keep} is not valid: give different numbers, 0 to {len(self.classes) - 1}"
                )
            if num_classes != len(self.keep):
                raise ZooError(f"data.keep names {len(self.keep)} classes: set data.num_classes={len(self.keep)} too")
            self.classes = [self.classes[i] for i in self.keep]
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def class_names(self) -> Sequence[str]:
        """The names of all classes of the data set, in the order of the labels."""
        return sources.classes(self.name)

    def prepare_data(self) -> None:
        """Fetch and verify the data set, once for all processes."""
        if not self.splits:
            sources.load(self.name, self.root)

    def setup(self, stage: str | None = None) -> None:
        """Read the tensors and split them; raises a ``ZooError`` if they do not have the sizes in the arguments."""
        if self.splits:
            return
        data = sources.load(self.name, self.root)
        if self.keep is not None:
            data = {**data, **kept(data, "train", self.keep), **kept(data, "test", self.keep)}
        images, labels = data["train_images"], data["train_labels"]
        held = (len(self.classes), *images.shape[1:])
        if held != (self.num_classes, self.image_size, self.image_size, self.in_channels):
            raise ZooError(
                f"data={self.name} holds {held[0]} classes of {held[1]}×{held[2]} images with {held[3]} channels, not "
                f"what data.num_classes, data.image_size and data.in_channels say; leave those as they are"
            )
        if not 0 <= self.val_size < len(labels):
            raise ZooError(f"data.val_size={self.val_size} is not valid: give 0 to {len(labels) - 1}")
        if self.binarise != "none":
            data = {**data, "test_images": binary(data["test_images"], seed=1)}
            drawn = binary(images, seed=0)
        else:
            drawn = images
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.split_seed))
        val, train = order[: self.val_size], order[self.val_size :].sort().values
        every = train
        if self.labels_per_class is not None:
            train = few(labels, train, self.num_classes, self.labels_per_class, self.seed)
        # if nothing is held out, the tensors are not copied
        whole = len(train) == len(labels)
        if self.binarise == "fixed":
            images = drawn
        self.splits = {
            "train": (images, labels) if whole else (images[train], labels[train]),
            "val": (drawn[val], labels[val]),
            "test": (data["test_images"], data["test_labels"]),
        }
        if self.unlabelled:
            self.splits["unlabelled"] = (images[every], labels[every])  # these labels are never part of a batch

    def _loader(self, split: str, batch_size: int, shuffle: bool = False) -> BatchLoader:
        tensors: tuple[Tensor, ...] = self.splits[split]
        if split == "train" and self.augment and self.augment.flip == "alternate":
            half = torch.rand(len(tensors[0]), generator=torch.Generator().manual_seed(self.seed)) < 0.5
            tensors = *tensors, half
        if self.trainer and self.trainer.strategy.root_device.type == "cuda":
            # the whole data set is small enough to be kept on the device, so that no batch has to be copied there
            tensors = tuple(tensor.to(self.trainer.strategy.root_device) for tensor in tensors)
        return BatchLoader(tensors, batch_size, shuffle, self.seed, *self.processes())

    def train_dataloader(self) -> Loader:
        """The training split, in a new order each epoch; a resumed run continues where it stopped."""
        _, world_size = self.processes()
        n = len(self.splits["train"][1]) // world_size * world_size
        batch_size = n if isinstance(self.batch_size, str) else min(self.batch_size, n)
        self.check_batch_size(batch_size)
        if self.unlabelled:
            self.check_batch_size(self.unlabelled)
            others = self.splits["unlabelled"][:1]
            if len(others[0]) < self.unlabelled:
                raise ZooError(
                    f"data.unlabelled={self.unlabelled}: there are {len(others[0])} training images; give at most that"
                )
            sizes = batch_size, self.unlabelled
            return self.training(MixedLoader(self.splits["train"], others, *sizes, self.seed, *self.processes()))
        return self.training(self._loader("train", batch_size, shuffle=True))

    def smallest_batch(self, world_size: int) -> int:
        """Images per process in a full training batch; ``BatchLoader`` avoids a last batch with a single one."""
        n = len(self.splits["train"][1]) // world_size * world_size
        sizes = [n if isinstance(self.batch_size, str) else min(self.batch_size, n)]
        return min([*sizes, self.unlabelled] if self.unlabelled else sizes) // world_size

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation split, in order; no batches if ``val_size`` is 0."""
        return self._loader("val", self.eval_batch_size) if self.val_size else []

    def test_dataloader(self) -> BatchLoader:
        """The official test split, in order."""
        return self._loader("test", self.eval_batch_size)

    def on_after_batch_transfer(self, batch: tuple[Tensor, ...], dataloader_idx: int) -> tuple[Tensor, ...]:
        """Turn raw images, uint8 (B, H, W, C), into model inputs, float32 (B, C, H, W), augmented in training only.

        Labels are int64 (B,); with mixup or cutmix they become probabilities, float (B, num_classes).
        """
        if self.unlabelled and len(batch) == 3:
            images, labels, others = batch
            weak, strong = self.augment or Augment(), self.strong or self.augment or Augment()
            views = ((weak, images), (weak, others), (strong, others))
            x, u, v = (
                change.mix(self.preprocess.normalised(change(of)), labels, self.num_classes)[0] for change, of in views
            )
            return x, labels, u, v
        images, labels, *half = batch
        training = bool(self.trainer and self.trainer.training)
        if training and self.binarise == "stochastic":
            x = self.preprocess.normalised(self.augment(images) if self.augment else images)
            return (torch.rand_like(x) < x).to(x.dtype), labels
        if self.augment is None or self.trainer is None or not training:
            return self.preprocess.normalised(images), labels
        mirrored = half[0] ^ bool(self.trainer.current_epoch % 2) if half else None
        return self.augment.mix(self.preprocess.normalised(self.augment(images, mirrored)), labels, self.num_classes)

    def sample(self, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """The first n examples of a split as model inputs: images (n, C, H, W), not augmented, and labels (n,)."""
        images, labels = self.splits[split]
        if split == "train" and self.binarise == "stochastic":
            images = binary(images[:n], seed=0)
        return self.preprocess.normalised(images[:n]), labels[:n]

    def summary(self) -> str:
        """One line with the sizes of the splits."""
        n, v, t = (f"{len(self.splits[split][1]):,}" for split in ("train", "val", "test"))
        if self.unlabelled:
            n = f"{n} training images with labels and {len(self.splits['unlabelled'][1]):,} without"
            return f"{self.name}: {n}, {v} validation, {t} test images"
        binary = "" if self.binarise == "none" else f", pixels of 0 and 1 ({self.binarise})"
        return f"{self.name}: {n} training, {v} validation, {t} test images{binary}"

    def card(self) -> dict[str, Any]:
        """The card's entries about a model's inputs and outputs."""
        return {"preprocess": self.preprocess.config(), "classes": list(self.classes)}

    def save_example(self, folder: Path) -> Path:
        """Write the first test image to a file, as an input for ``zoo predict``; return its path."""
        path = folder / "example.png"
        Image.fromarray(self.splits["test"][0][0].squeeze(-1).numpy()).save(path)
        return path


def own_fit(name: str) -> Fit:
    """How pictures become images like those of a data set; "resize" for sets that are not in ``sources.SOURCES``."""
    return sources.SOURCES[name].fit if name in sources.SOURCES else "resize"
