"""What the models of ``zoo demo`` answer while one draws, moves a slider or types; ``zoo.use.demo`` is the page."""

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.utils import make_grid

from zoo.pretrained.features import features
from zoo.pretrained.loading import load
from zoo.use.pictures import pixels
from zoo.use.sample import encoded_prompt, sample, text_of

DIGITS, CODES = "lenet5_mnist", "vae_mnist"
LAYERS = {
    "act1": "The 6 feature maps of the first layer, 28×28",
    "act2": "The 16 feature maps of the second layer, 10×10",
}
COLUMNS = (6, 8)  # of the pictures of these maps
DIRECTIONS = 6  # numbers of a code that can be moved
REACH = 3.0  # how far, in standard deviations of the codes
LONGEST_PROMPT = 1000

load_once = cache(load)


@torch.inference_mode()
def read_digit(drawing: dict[str, Any] | None) -> tuple[dict[str, float] | None, Image.Image | None, *tuple[Any, ...]]:
    """The probabilities of the classes, what the model sees, and the feature maps of ``LAYERS``, for a drawing.

    Args:
        drawing: the sketchpad's value; its "composite" is black ink on white paper.

    Returns:
        Probabilities by class, and pictures; None instead of each while nothing is drawn.
    """
    paper = drawing["composite"] if drawing else None
    if paper is None or (ink := ImageOps.invert(paper)).getbbox() is None:
        return None, None, *(None for _ in LAYERS)
    model: Any = load_once(DIGITS)
    x = model.preprocess(model.preprocess.read(ink))  # light on dark, as MNIST
    p = model(x).softmax(1)[0].tolist()
    maps = features(model, x, list(LAYERS)).values()
    seen = enlarged(pixels(x, model.preprocess)[0].expand(3, -1, -1), 5)
    shown = (tiles(layer[0], columns=columns) for layer, columns in zip(maps, COLUMNS, strict=True))
    return {str(c): value for c, value in zip(model.classes, p, strict=True)}, seen, *shown


def tiles(maps: Tensor, columns: int, width: int = 960) -> Image.Image:
    """Feature maps (K, h, w) as one picture of about this width, in colours from 0 to the largest value of all."""
    share = (maps / maps.max().clamp(min=1e-6)).clamp(0, 1)
    colours = torch.from_numpy(colormaps["inferno"](share.numpy())[..., :3]).permute(0, 3, 1, 2)  # (K, 3, h, w)
    scale = max(1, width // columns // maps.shape[-1])
    large = colours.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return enlarged(make_grid(large, nrow=columns, padding=6, pad_value=1.0), 1)


def enlarged(image: Tensor, scale: int) -> Image.Image:
    """An image (3, H, W) with values in [0, 1] as a picture; each pixel becomes a square of this side."""
    image = image.mul(255).round().byte().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


@cache
@torch.inference_mode()
def directions() -> tuple[int, ...]:
    """The numbers of the code that change the VAE's images most, the strongest first: the mean change of a pixel when
    the number moves by 1 in either direction, over 64 codes from N(0, I).
    """
    model: Any = load_once(CODES)
    z = model.noise(64, torch.Generator().manual_seed(0))  # (64, latent)
    moves = torch.eye(model.latent)
    changes = torch.stack([(model.decode(z + move) - model.decode(z - move)).abs().mean() for move in moves])
    return tuple(changes.topk(min(DIRECTIONS, model.latent)).indices.tolist())


def code_of(seed: float | None) -> Tensor:
    """The code drawn with a seed, (1, latent); of an empty field it is that of 0."""
    return load_once(CODES).noise(1, torch.Generator().manual_seed(int(seed or 0)))  # type: ignore[operator]


@torch.inference_mode()
def decode(seed: float | None, *values: float) -> Image.Image:
    """The VAE's image for the code of a seed, with the given values in place of the numbers of ``directions``."""
    model: Any = load_once(CODES)
    z = code_of(seed)
    z[0, list(directions())] = torch.tensor(values, dtype=z.dtype)
    return enlarged(pixels(model.decode(z), model.preprocess)[0].expand(3, -1, -1), 12)


def values_of(seed: float | None) -> list[float]:
    """The values of the sliders for the code of a seed."""
    return [round(max(-REACH, min(REACH, v)), 2) for v in code_of(seed)[0, list(directions())].tolist()]


def continue_text(prompt: str, name: str, length: float, temperature: float) -> Iterator[str]:
    """The prompt and its continuation by a language model, longer by one token each time."""
    model: Any = load_once(name)
    prompt, tokenizer = prompt[:LONGEST_PROMPT], model.preprocess
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    seed = random.SystemRandom().randrange(2**31)
    begin = encoded_prompt(tokenizer, prompt)
    tokens = sample(model, begin, int(length), temperature, forbidden=unknown, seed=seed)
    text = prompt
    for part in text_of(tokenizer, tokens):
        text += part
        yield text
