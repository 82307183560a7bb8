"""What one part of the zoo asks of another: each contract is a Protocol with the few methods that are called.

A model, data or preprocessing of one's own keeps a contract by having its methods; it inherits nothing. ``isinstance``
asks whether it does, and ``require`` says which method is missing. Imports no torch at run time.

A contract names methods and plain attributes, never layers: Python 3.12 does not find a layer by looking at a module
from outside, as ``isinstance`` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, runtime_checkable

from zoo.errors import ZooError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

# --- models -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Encoder(Protocol):
    """A model with a code: an autoencoder, or probabilistic PCA."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to codes (B, D)."""
        ...


@runtime_checkable
class Autoencoder(Encoder, Protocol):
    """A model that gives images back from their codes."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, D) to images (B, C, H, W)."""
        ...


@runtime_checkable
class Layered(Autoencoder, Protocol):
    """An autoencoder whose layers can be trained one after the other (``task.layerwise``)."""

    def layer(self, i: int) -> tuple[Any, Any, Any]:
        """The layers before layer i of the encoder, that layer, and its inverse in the decoder."""
        ...

    def depth(self) -> int:
        """The number of layers of the encoder."""
        ...


@runtime_checkable
class Loaded(Protocol):
    """A trained model, as ``zoo.load`` gives it."""

    preprocess: Any
    classes: Any
    card: Any


@runtime_checkable
class OfSize(Protocol):
    """A model of images that is made for one size, and takes others."""

    image_size: int


@runtime_checkable
class WithHeads(Protocol):
    """A model whose layers that are sized by the number of classes are not just ``head``."""

    heads: Sequence[str]


@runtime_checkable
class KnownToTorchvision(Protocol):
    """A model that torchvision has too, with other names of its layers: theirs, and what they are called here."""

    torchvision_names: Mapping[str, str]


@runtime_checkable
class WithAux(Protocol):
    """A classifier with auxiliary heads, which training looks at."""

    def forward_with_aux(self, x: Tensor) -> Sequence[Tensor]:
        """Inputs to logits and auxiliary logits, each (B, num_classes)."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A model of sequences that goes on with the state in which it ended."""

    def forward_with_state(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens (B, T) and a state to logits (B, T, K) and the state after the last step."""
        ...


@runtime_checkable
class SeesAhead(Protocol):
    """A model of sequences that tells whether a step sees the steps after it."""

    bidirectional: bool


@runtime_checkable
class FromData(Protocol):
    """A model that starts from statistics of the training examples."""

    def init_from_data(self, x: Tensor) -> None:
        """Set initial weights from examples."""
        ...


@runtime_checkable
class FromAllData(FromData, Protocol):
    """A model that starts from all training examples, where others take a few thousand."""

    init_on_all: bool


@runtime_checkable
class Density(Protocol):
    """A model whose log-likelihood is exact."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to log p(x) in nats, (B,)."""
        ...


@runtime_checkable
class PixelByPixel(Density, Protocol):
    """A density of pixels that are 0 or 1, which draws one pixel after the other."""

    def logits(self, x: Tensor) -> Tensor:
        """Images to the log-odds of each pixel given those before it."""
        ...


@runtime_checkable
class ClosedForm(Density, Protocol):
    """A density that expectation maximisation fits."""

    def statistics(self, x: Tensor) -> tuple[Tensor, ...]:
        """The E step: a batch to sums that add over batches."""
        ...

    def update(self, *sums: Tensor) -> None:
        """The M step: new parameters from the sums of all batches."""
        ...


@runtime_checkable
class Variational(Protocol):
    """A model with an approximate posterior: a variational autoencoder."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to the mean and the log-variance of q(z|x), (B, latent) each."""
        ...

    def logits(self, z: Tensor) -> Tensor:
        """Codes to the log-odds of pixels."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A model that makes images of noise."""

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """What n images are made of."""
        ...

    def generate(self, noise: Tensor) -> Tensor:
        """Noise to images (B, C, H, W); of a conditional model ``labels`` (B,) say the classes."""
        ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W), without gradients."""
        ...


@runtime_checkable
class Latent(Generator, Protocol):
    """A generator whose noise begins with a code of ``latent`` numbers from N(0, I)."""

    latent: int


@runtime_checkable
class Pair(Latent, Protocol):
    """A ``generator`` and a ``discriminator``, two modules with all parameters, for ``task=adversarial``."""

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images to the log-odds (B,) that they are real; of a critic, its score."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A model of images that makes those of a class, where ``num_classes`` says how many there are (null: none)."""

    num_classes: int | None


@runtime_checkable
class Denoising(Protocol):
    """A ladder network: a classifier whose noisy layers are denoised from above."""

    def corrupted_and_cost(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Images with and without labels to the noisy logits of the first, and the denoising cost of all."""
        ...


def classes_of(model: Any) -> int:
    """How many classes a model of images draws; 0 where it is not conditional."""
    return (model.num_classes or 0) if isinstance(model, Conditional) else 0


def preprocess_of(model: Any) -> Any:
    """The preprocessing of a trained model; None of another."""
    return model.preprocess if isinstance(model, Loaded) else None


# --- data -------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Data(Protocol):
    """What a run asks of its data, beside what Lightning asks of a LightningDataModule."""

    name: Any

    def card(self) -> dict[str, Any]:
        """What goes into a checkpoint's card: ``preprocess``, ``classes``, ``dataset``, ``licence``, …"""
        ...

    def sample(self, n: int, part: str = "train") -> tuple[Tensor, Tensor]:
        """The first n examples of a part, as the model takes them, and their targets."""
        ...

    def summary(self) -> str:
        """What is trained on, for the line with which a run begins."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """Data whose classes have names."""

    classes: Sequence[str]


@runtime_checkable
class OfImages(Protocol):
    """Data of images."""

    in_channels: int
    image_size: int


@runtime_checkable
class WithExample(Protocol):
    """Data that write one of their examples as a file, for the command that a run proposes at its end."""

    def save_example(self, folder: Path) -> Path:
        """Write the first test example into a folder; its path."""
        ...


@runtime_checkable
class OfText(Protocol):
    """Data of a text: streams or windows of tokens, and what their words and characters are."""

    tokenizer: Any
    windows: str

    def units(self, part: str) -> dict[str, int]:
        """The tokens, unknown tokens, characters and words of a part."""
        ...


@runtime_checkable
class Validated(Protocol):
    """Data whose validation split is carved from the training split; with 0 there is none."""

    val_size: Any


@runtime_checkable
class Unlabelled(Protocol):
    """Data with ``unlabelled`` images beside each batch of labelled ones."""

    unlabelled: int


# --- tasks ------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Reconstructs(Protocol):
    """A task whose model gives images back."""

    def corrupted(self, x: Tensor) -> Tensor | None:
        """What the model sees of clean images (B, C, H, W) in training; None where it sees them as they are."""
        ...


# --- preprocessing ----------------------------------------------------------------------------------------------------


@runtime_checkable
class Preprocess(Protocol):
    """A trained model's ``preprocess``."""

    def random_input(self, n: int) -> Tensor:
        """A batch of n that the model can be tried with, the same for the same n."""
        ...


@runtime_checkable
class ReadsImages(Preprocess, Protocol):
    """A preprocessing of images."""

    mean: Sequence[float]
    std: Sequence[float]

    def read(self, path: Any, invert: bool = False) -> Tensor:
        """An image file as raw pixels uint8 (1, H, W, C)."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Raw pixels to the model's input (B, C, H, W)."""
        ...


# --- what is missing --------------------------------------------------------------------------------------------------


def missing(thing: Any, contract: type) -> list[str]:
    """The methods and attributes that a contract asks for and something does not have."""
    kinds = (kind for kind in contract.__mro__ if kind not in (Protocol, Generic, object))
    names = {name for kind in kinds for name in (*vars(kind), *inspect.get_annotations(kind))}
    return [name for name in sorted(names) if not name.startswith("_") and not hasattr(thing, name)]


def require(thing: Any, contract: type, who: str, advice: str) -> None:
    """Raise a ``ZooError`` where something does not keep a contract: by the name of what is missing.

    Args:
        who: what asks for it, as "task=density".
        advice: what to choose instead, as "choose model=made".
    """
    if names := missing(thing, contract):
        raise ZooError(
            f"{who} needs {', '.join(names)}, which {type(thing).__name__} does not have (zoo.contracts."
            f"{contract.__name__}); {advice}"
        )
