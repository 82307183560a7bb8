"""What an exported model takes and gives, by its kind: tokens and a state, images, noise, or codes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contracts import Autoencoder, Pair, classes_of
from zoo.errors import ZooError
from zoo.models.backends import as_reference
from zoo.models.cells import State
from zoo.models.ppca import PPCA
from zoo.models.recurrent import Level, Recurrent


@dataclass
class Signature:
    """A module of positional tensors, and how they are called.

    Args:
        module: the model, or the part of it that is exported.
        inputs: each tensor's name, and the names of its dimensions that are free, by their places.
        outputs: names.
        example: makes inputs of a batch size; where the length is free, each batch size has another.
    """

    module: nn.Module
    inputs: dict[str, dict[int, str]]
    outputs: list[str]
    example: Callable[[int], tuple[Tensor, ...]]


BATCH = {0: "batch"}


class Method(nn.Module):
    """A model's method as a module."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return getattr(self.model, self.name)(x, *([] if labels is None else [labels]))


class WithState(nn.Module):
    """A language model that takes its state and gives the next: each tensor is of all layers, (depth, B, hidden)."""

    def __init__(self, model: Recurrent):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, h: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        states = [h] if c is None else [h, c]
        given: list[State] = list(zip(*(state.unbind(0) for state in states), strict=True))
        logits, after = self.model.forward_with_state(x, given)
        return logits, *(torch.stack(parts) for parts in zip(*after, strict=True))


class Projection(nn.Module):
    """Probabilistic PCA's encoder, and where asked its decoder, by the one matrix that its equations come to."""

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
        part: "whole"; of what has a code, "encoder" or "decoder"; of adversarial nets, "generator" or
            "discriminator". None is "generator" of those, and "whole" of others.

    Raises:
        ZooError: a part that the model has not.
    """
    parts = parts_of(model)
    part = part or parts[0]
    if part not in parts:
        raise ZooError(f"--part {part} is not of this model; valid: {', '.join(parts)}")
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
    """What of a model can be exported, the usual first."""
    if isinstance(model, Pair):
        return ["generator", "discriminator"]
    if isinstance(model, Autoencoder):
        return ["whole", "encoder", "decoder"]
    return ["whole"]


def of_sequences(model: Any) -> Signature:
    """Of a recurrent net: any number of steps; with the state, where the next call can go on from it."""
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
    """Of adversarial nets: noise to images, or images to scores; with labels, where they are conditional."""
    classes = classes_of(model)
    method, name, output = ("generate", "noise", "images") if part == "generator" else ("judge", "images", "scores")

    def example(n: int) -> tuple[Tensor, ...]:
        x = model.noise(n, torch.Generator().manual_seed(n)) if part == "generator" else images(n)[0]
        return (x, torch.arange(n) % classes) if classes else (x,)

    inputs = {name: BATCH, **({"labels": BATCH} if classes else {})}
    return Signature(Method(model, method), inputs, [output], example)


def any_length(model: Any) -> Any:
    """A copy whose recurrent layers go by the equations, as one operation that takes any number of steps; torch's
    kernels would be written for one length alone.
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
    """Numbers of N(0, 1), (n, width), the same for the same sizes."""
    return torch.randn(n, width, generator=torch.Generator().manual_seed(n))
