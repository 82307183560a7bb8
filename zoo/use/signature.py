"""The inputs and outputs of an exported model, by its kind: tokens and a state, images, noise, or codes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contracts import Aligned, Autoencoder, Pair, Storyteller, Translator, classes_of
from zoo.errors import ZooError
from zoo.models.backends import as_reference
from zoo.models.cells import State
from zoo.models.ppca import PPCA
from zoo.models.recurrent import Level, Recurrent


@dataclass
class Signature:
    """A module with tensors as positional arguments, and the names of its inputs and outputs.

    Args:
        module: the model, or the part that is exported.
        inputs: the name of each input tensor, with its dimensions of variable size: their indices and names.
        outputs: the name of each output tensor.
        example: makes example inputs of a given batch size; if the length is variable, it differs between batch sizes.
    """

    module: nn.Module
    inputs: dict[str, dict[int, str]]
    outputs: list[str]
    example: Callable[[int], tuple[Tensor, ...]]


BATCH = {0: "batch"}


class Method(nn.Module):
    """Wraps a method of a model as a module."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return getattr(self.model, self.name)(x, *([] if labels is None else [labels]))


class WithState(nn.Module):
    """A language model with its state as input and the next state as output; state tensors are (depth, B, hidden)."""

    def __init__(self, model: Recurrent):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, h: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        states = [h] if c is None else [h, c]
        given: list[State] = list(zip(*(state.unbind(0) for state in states), strict=True))
        logits, after = self.model.forward_with_state(x, given)
        return logits, *(torch.stack(parts) for parts in zip(*after, strict=True))


class Projection(nn.Module):
    """Probabilistic PCA's encoder as a single matrix product, and with ``decoded`` also its decoder."""

    def __init__(self, model: PPCA, decoded: bool):
        super().__init__()
        self.model, self.decoded = model, decoded
        d = len(model.mean)
        with torch.no_grad():
            matrix = model.encode((torch.eye(d) + model.mean).unflatten(1, model.shape))  # (D, code)
        self.matrix: Tensor
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        codes = (x.flatten(1) - self.model.mean) @ self.matrix
        return self.model.decode(codes) if self.decoded else codes


def signature(model: Any, part: str | None = None) -> Signature:
    """How a loaded model is exported.

    Args:
        part: "whole"; for an autoencoder also "encoder" or "decoder"; for a GAN only "generator" or "discriminator".
            None means "generator" for a GAN, and "whole" otherwise.

    Raises:
        ZooError: the model has no such part, or is one of speech, translation or stories.
    """
    if isinstance(model, Translator):
        raise ZooError(
            "a model that translates is not exported, since its search calls it step by step: use zoo translate"
        )
    if isinstance(model, Aligned):
        raise ZooError(
            "a model of speech is not exported yet: it takes recordings of any length, and the exporters fix that of "
            "its LSTMs; use zoo transcribe, or zoo.load in Python"
        )
    if isinstance(model, Storyteller):
        raise ZooError("a model of stories draws its words one by one, so it is not exported; use it with zoo tell")
    parts = parts_of(model)
    part = part or parts[0]
    if part not in parts:
        raise ZooError(f"--part {part}: this model has no such part; valid: {', '.join(parts)}")
    model = any_length(model)
    images = Signature(model, {"images": BATCH}, ["logits"], lambda n: (model.preprocess.random_input(n),))
    if isinstance(model, Recurrent):
        return of_sequences(model)
    if part == "whole" and len(parts) > 1:
        module = Projection(model, decoded=True) if isinstance(model, PPCA) else model
        return Signature(module, images.inputs, ["reconstruction"], images.example)
    if part == "encoder":
        module = Projection(model, decoded=False) if isinstance(model, PPCA) else Method(model, "encode")
        return Signature(module, images.inputs, ["codes"], images.example)
    if part == "decoder":
        width = model.encode(model.preprocess.random_input(1)).shape[1]
        return Signature(Method(model, "decode"), {"codes": BATCH}, ["images"], lambda n: (normal(n, width),))
    if part in ("generator", "discriminator"):
        return of_pair(model, part, images.example)
    return images


def parts_of(model: Any) -> list[str]:
    """The parts of a model that can be exported, the default first."""
    if isinstance(model, Pair):
        return ["generator", "discriminator"]
    if isinstance(model, Autoencoder):
        return ["whole", "encoder", "decoder"]
    return ["whole"]


def of_sequences(model: Any) -> Signature:
    """The signature of a recurrent network: any number of steps; with the state, if a later call can use it."""
    name = "numbers" if model.embedding is None else "tokens"
    outputs = ["logits"]

    def steps(n: int) -> Tensor:
        return model.preprocess.random_input(n)[:, : 5 + n].contiguous()

    if model.bidirectional or model.read == "last":
        return Signature(model, {name: {0: "batch", 1: "length"}}, outputs, lambda n: (steps(n),))
    level: Any = model.layers[0]
    states = ["h", "c"][: level.directions[0].states]
    depth = len(model.layers)

    def example(n: int) -> tuple[Tensor, ...]:
        return steps(n), *(normal(n * depth, model.hidden).view(depth, n, -1).tanh() for _ in states)

    inputs = {name: {0: "batch", 1: "length"}, **{state: {1: "batch"} for state in states}}
    return Signature(WithState(model), inputs, [*outputs, *(f"next_{state}" for state in states)], example)


def of_pair(model: Any, part: str, images: Callable[[int], tuple[Tensor, ...]]) -> Signature:
    """The signature of a part of a GAN: noise to images, or images to scores; with labels if it is conditional."""
    classes = classes_of(model)
    method, name, output = ("generate", "noise", "images") if part == "generator" else ("judge", "images", "scores")

    def example(n: int) -> tuple[Tensor, ...]:
        x = model.noise(n, torch.Generator().manual_seed(n)) if part == "generator" else images(n)[0]
        return (x, torch.arange(n) % classes) if classes else (x,)

    inputs = {name: BATCH, **({"labels": BATCH} if classes else {})}
    return Signature(Method(model, method), inputs, [output], example)


def any_length(model: Any) -> Any:
    """A copy whose recurrent layers are computed by their equations in one operation for any number of steps, since
    torch's kernels can be exported for a fixed length only. A model without such layers is returned unchanged.
    """
    if not any(isinstance(module, Level) for module in model.modules()):
        return model
    model = copy.deepcopy(model).requires_grad_(False)
    for level in model.modules():
        for i, layer in enumerate(level.directions if isinstance(level, Level) else ()):
            reference = as_reference(layer)
            reference.scanned = True
            setattr(level, str(i), reference)
    return model


def normal(n: int, width: int) -> Tensor:
    """Random numbers from N(0, 1), (n, width), always the same for the same sizes."""
    return torch.randn(n, width, generator=torch.Generator().manual_seed(n))
