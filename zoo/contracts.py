"""The interfaces between the parts of the zoo: each contract is a Protocol with the few methods that are called.

A user's own model, data or preprocessing fulfils a contract by having its methods, without inheriting anything.
``isinstance`` tests this, and ``require`` reports what is missing. This module does not import torch at run time.

A contract names methods and plain attributes, but no layers: since Python 3.12 ``isinstance`` does not find the layers
of a module, because it does not call ``__getattr__``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, runtime_checkable

from zoo.errors import ZooError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor
    from torch.nn import Module as ModuleProtocol  # no Protocol can say that something is a module

    from zoo.pretrained.card import Card
    from zoo.pretrained.stages import FeatureInfo
else:
    ModuleProtocol = Protocol

# --- models -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Encoder(Protocol):
    """A model that encodes images: an autoencoder, or probabilistic PCA."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to codes (B, D)."""
        ...


@runtime_checkable
class Autoencoder(Encoder, Protocol):
    """A model that also decodes codes to images."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, D) to images (B, C, H, W)."""
        ...


@runtime_checkable
class Layered(Autoencoder, Protocol):
    """An autoencoder whose layers can be trained one after the other (``task.layerwise``)."""

    def layer(self, i: int) -> tuple[Any, Any, Any]:
        """The layers before layer i of the encoder, that layer, and the decoder's layer that mirrors it."""
        ...

    def depth(self) -> int:
        """The number of layers of the encoder."""
        ...


@runtime_checkable
class Loaded(ModuleProtocol):
    """A trained model, as returned by ``zoo.load``: a module with three more attributes.

    Attributes:
        preprocess: turns raw images or text into the model's input.
        classes: the names of the classes in the order of the logits; empty if the model has none, or a new head.
        card: what the model is and how it was trained.
    """

    preprocess: Any
    classes: Sequence[str]
    card: Card


@runtime_checkable
class LoadedFeatures(Loaded, ModuleProtocol):
    """A trained model that gives a list of features, as returned by ``zoo.load(…, features_only=True)``.

    Attributes:
        feature_info: the layer, channels and reduction of each of the features.
    """

    feature_info: FeatureInfo


@runtime_checkable
class OfSize(Protocol):
    """A model with a default image size, which may also take images of other sizes."""

    image_size: int


@runtime_checkable
class WithHeads(Protocol):
    """A model in which more layers than ``head`` depend on the number of classes; ``heads`` names all of them."""

    heads: Sequence[str]


@runtime_checkable
class KnownToTorchvision(Protocol):
    """A model that torchvision also has; ``torchvision_names`` maps torchvision's names of layers to the zoo's."""

    torchvision_names: Mapping[str, str]


@runtime_checkable
class WithAux(Protocol):
    """A classifier with auxiliary heads, which are used in training."""

    def forward_with_aux(self, x: Tensor) -> Sequence[Tensor]:
        """Inputs to logits and auxiliary logits, each (B, num_classes)."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A model of sequences that can continue a sequence from its last state."""

    def forward_with_state(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens (B, T) and a state to logits (B, T, K) and the state after the last step."""
        ...


@runtime_checkable
class Translator(Protocol):
    """A model that reads a sentence and writes another, token by token."""

    def read(self, source: Tensor) -> Any:
        """Source tokens (B, S), padded with 0, to a NamedTuple of tensors whose first dimension is the sentence; its
        ``mask`` (B, S) is True where there is a token.
        """
        ...

    def write(self, target: Tensor, memory: Any, state: Any = None) -> Any:
        """Target tokens (B, T) to a NamedTuple: ``logits`` of the token that follows each of them (B, T, V),
        ``attention`` (B, T, S), and ``state``, a list with a tuple of tensors for each layer, with which the next call
        can go on.
        """
        ...


@runtime_checkable
class Bilingual(Translator, Protocol):
    """A translator that can begin with vectors of the tokens of both languages (``task=unsupervised_translate``)."""

    def embed(self, vectors: Tensor) -> None:
        """Begin with these vectors of the tokens, (V, D)."""
        ...


@runtime_checkable
class SeesAhead(Protocol):
    """A model of sequences that says whether its outputs depend on later steps."""

    bidirectional: bool


@runtime_checkable
class FromData(Protocol):
    """A model whose initial weights depend on training examples."""

    def init_from_data(self, x: Tensor) -> None:
        """Set the initial weights from examples x, (B, …)."""
        ...


@runtime_checkable
class FromAllData(FromData, Protocol):
    """A model whose initial weights depend on all training examples, instead of a few thousand."""

    init_on_all: bool


@runtime_checkable
class Density(Protocol):
    """A model with an exact log-likelihood."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to log p(x) in nats, (B,)."""
        ...


@runtime_checkable
class PixelByPixel(Density, Protocol):
    """A density model of binary pixels, which draws one pixel after the other."""

    def logits(self, x: Tensor) -> Tensor:
        """Images to the log-odds of each pixel, given the pixels before it."""
        ...


@runtime_checkable
class ClosedForm(Density, Protocol):
    """A density model that is fitted by expectation maximisation."""

    def statistics(self, x: Tensor) -> tuple[Tensor, ...]:
        """The E step: the statistics of a batch, which are summed over all batches."""
        ...

    def update(self, *sums: Tensor) -> None:
        """The M step: set the parameters from the summed statistics of all batches."""
        ...


@runtime_checkable
class Variational(Protocol):
    """A model with an approximate posterior: a variational autoencoder."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to the mean and the log-variance of q(z|x), (B, latent) each."""
        ...

    def logits(self, z: Tensor) -> Tensor:
        """Codes (B, latent) to the log-odds of the pixels."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A model that makes images from noise."""

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The noise for n images."""
        ...

    def generate(self, noise: Tensor) -> Tensor:
        """Noise to images (B, C, H, W); a conditional model also takes the classes, ``labels`` (B,)."""
        ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n images (n, C, H, W), without gradients."""
        ...


@runtime_checkable
class Latent(Generator, Protocol):
    """A generator of images whose noise starts with a code of ``latent`` numbers from N(0, I)."""

    latent: int


@runtime_checkable
class Pair(Latent, Protocol):
    """A generative adversarial network for ``task=adversarial``; all of its parameters are in two modules that are
    called ``generator`` and ``discriminator``.
    """

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images to the log-odds (B,) that they are real; a Wasserstein critic gives its score instead."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A model that can draw images of a given class; ``num_classes`` is None if it is not conditional."""

    num_classes: int | None


@runtime_checkable
class Denoising(Protocol):
    """A ladder network: a classifier whose noisy layers are denoised by a decoder."""

    def corrupted_and_cost(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy logits of labelled images x, and the denoising cost of images u."""
        ...


@runtime_checkable
class Aligned(Protocol):
    """A model from spectrograms and their numbers of frames to a logit for each token and step (``task=ctc``)."""

    def steps(self, frames: Tensor) -> Tensor:
        """The number of output steps for each number of frames, (B,)."""
        ...


class Story(NamedTuple):
    """The input of a model of stories: pictures, and the sentences of their pages one after the other.

    Attributes:
        pictures: the features of the pictures, (B, N, in_features).
        words: int64 (B, L); each sentence begins with the token that ends sentences, and is without its own end.
        page: the number of the page, 0 to N - 1, that each word belongs to, int64 (B, L), ascending.
    """

    pictures: Tensor
    words: Tensor
    page: Tensor

    @property
    def shape(self) -> torch.Size:
        """The shape of the pictures."""
        return self.pictures.shape

    def to(self, device: Any) -> Story:
        return Story(*(tensor.to(device) for tensor in self))


@runtime_checkable
class Storyteller(Protocol):
    """A model that writes sentences about the pictures of a sequence; its ``forward`` takes a ``Story``."""

    def glances(self, pictures: Tensor) -> Tensor:
        """What the sentences of each page see of the pictures: (B, N, in_features) -> (B, N, D)."""
        ...

    def step(self, words: Tensor, glances: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (B, K) after one more word (B,) of a page with the glances (B, D), and the next state."""
        ...


@runtime_checkable
class MatchesPages(Protocol):
    """A model of stories that also compares pages with pictures, for the further objectives of ``task=story``."""

    def page_words(self, pictures: Tensor) -> Tensor:
        """The log-odds that each word is in a page's sentences: (B, N, in_features) -> (B, N, K)."""
        ...

    def meanings(self, pictures: Tensor, bags: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (…, in_features) and words (…, L) to vectors (…, D), whose inner products say what fits."""
        ...


def classes_of(model: Any) -> int:
    """The number of classes of a conditional model of images; 0 if it is not conditional."""
    return (model.num_classes or 0) if isinstance(model, Conditional) else 0


def preprocess_of(model: Any) -> Any:
    """The preprocessing of a trained model; None for other models."""
    return model.preprocess if isinstance(model, Loaded) else None


# --- data -------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Data(Protocol):
    """What a run needs from its data, in addition to the methods of a LightningDataModule."""

    name: Any

    def card(self) -> dict[str, Any]:
        """The data's entries in a checkpoint's card: ``preprocess``, ``classes``, ``dataset``, ``licence``, …"""
        ...

    def sample(self, n: int, part: str = "train") -> tuple[Tensor, Tensor]:
        """The first n examples of a part, "train", "val" or "test", as model inputs, and their targets."""
        ...

    def summary(self) -> str:
        """A description of the data for the first line that a run prints."""
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
    """Data that can write an example to a file. The command that a run proposes at its end then uses this file."""

    def save_example(self, folder: Path) -> Path:
        """Write the first test example into a folder; return its path."""
        ...


@runtime_checkable
class OfText(Protocol):
    """Data of a text, as streams or windows of tokens."""

    tokenizer: Any
    windows: str

    def units(self, part: str) -> dict[str, int]:
        """The numbers of tokens, unknown tokens, characters and words of a part."""
        ...


@runtime_checkable
class OfPairs(Protocol):
    """Data of sentences and their translations."""

    tokenizer: Any
    languages: Sequence[str]


@runtime_checkable
class OfTwoLanguages(OfPairs, Protocol):
    """Data of sentences in two languages that are no translations of each other, but for the test."""

    def aligned(self) -> Any:
        """Vectors of the tokens of both languages in one space, and word-by-word translations; ``Aligned``."""
        ...

    def used(self, side: int) -> Tensor:
        """Which tokens the first (0) or the second (1) language has, bool (V,)."""
        ...


@runtime_checkable
class OfSpeech(Protocol):
    """Data of recordings and their transcripts; ``preprocess`` is a ``ReadsSpeech``."""

    preprocess: Any
    held_out: str | None


@runtime_checkable
class Validated(Protocol):
    """Data that hold out ``val_size`` of the training split for validation; 0 means no validation split."""

    val_size: Any


@runtime_checkable
class Unlabelled(Protocol):
    """Data that add ``unlabelled`` images without labels to each batch of labelled ones."""

    unlabelled: int


# --- tasks ------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Reconstructs(Protocol):
    """A task whose model reconstructs images."""

    def corrupted(self, x: Tensor) -> Tensor | None:
        """The corrupted inputs for clean images (B, C, H, W) in training; None if the inputs are not corrupted."""
        ...


@runtime_checkable
class Thorough(Protocol):
    """A task some of whose test metrics take long, or change a lot with a single example."""

    def measure_quickly(self) -> None:
        """Leave these metrics out, as ``zoo evaluate --quick`` does."""
        ...


# --- preprocessing ----------------------------------------------------------------------------------------------------


@runtime_checkable
class Preprocess(Protocol):
    """A trained model's ``preprocess``."""

    def random_input(self, n: int) -> Tensor:
        """A random batch of n examples to try the model with; equal n give equal batches."""
        ...


@runtime_checkable
class ReadsImages(Preprocess, Protocol):
    """Preprocessing of images."""

    mean: Sequence[float]
    std: Sequence[float]

    def read(self, path: Any, invert: bool = False) -> Tensor:
        """Read an image file as raw pixels, uint8 (1, H, W, C)."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Raw pixels, uint8 (B, H, W, C), to the model's input (B, C, H, W)."""
        ...


@runtime_checkable
class ReadsSpeech(Preprocess, Protocol):
    """Preprocessing of recordings, with the tokens of their transcripts."""

    rate: int
    transcripts: Any
    sentences: Sequence[str]

    def read(self, path: Any) -> Tensor:
        """Read a sound file as samples, int16 (S,)."""
        ...

    def features(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, S) and their numbers (B,) to spectrograms (B, T, M) and their numbers of frames (B,)."""
        ...


@runtime_checkable
class SeesImages(ReadsImages, Protocol):
    """Preprocessing of images that also tells what it saw: the picture given, and what is odd about it."""

    def see(self, path: Any, invert: bool = False) -> Any:
        """Read an image file: its raw pixels, the picture as given, and warnings (``zoo.data.preprocess.Seen``)."""
        ...


# --- what is missing --------------------------------------------------------------------------------------------------


def missing(thing: Any, contract: type) -> list[str]:
    """The methods and attributes of a contract that an object does not have."""
    kinds = (kind for kind in contract.__mro__ if kind not in (Protocol, Generic, object))
    names = {name for kind in kinds for name in (*vars(kind), *inspect.get_annotations(kind))}
    return [name for name in sorted(names) if not name.startswith("_") and not hasattr(thing, name)]


def require(thing: Any, contract: type, who: str, advice: str) -> None:
    """Raise a ``ZooError`` that names the missing methods and attributes if an object does not fulfil a contract.

    Args:
        thing: the object.
        contract: one of the protocols above.
        who: what needs the contract, such as "task=density".
        advice: what the user should do, such as "choose model=made".
    """
    if names := missing(thing, contract):
        raise ZooError(
            f"{who} needs {', '.join(names)}, which {type(thing).__name__} does not have (zoo.contracts."
            f"{contract.__name__}); {advice}"
        )
