"""What a trained network looks at: the pixels that its decision depends on, and the images that its units respond to.

``saliency`` and ``maximise`` are from Simonyan, Vedaldi, Zisserman: "Deep Inside Convolutional Networks: Visualising
Image Classification Models and Saliency Maps", 2014 (arXiv 1312.6034); activation maximisation goes back to Erhan,
Bengio, Courville, Vincent 2009. ``integrated_gradients`` is from Sundararajan, Taly, Yan: "Axiomatic Attribution for
Deep Networks", ICML 2017, and ``grad_cam`` from Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV 2017. A model must be in evaluation mode; its parameters are not changed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.pretrained.features import check_names, features, outputs, own_parameters

BATCH = 16  # images on the path of integrated gradients that are computed at once


def gradient(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The gradient of a class's logit with respect to the input: (B, C, H, W) to the same shape."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


def saliency(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """How strongly a class's logit reacts to each pixel: the absolute gradient, and of a pixel's channels the largest
    (Simonyan et al. 2014, section 3.1).

    Args:
        model: a classifier.
        x: preprocessed images, (B, C, H, W).
        target: the number of the class.

    Returns:
        (B, H, W), 0 or more.
    """
    return gradient(model, x, target).abs().amax(1)


def integrated_gradients(model: nn.Module, x: Tensor, target: int, baseline: Tensor, steps: int = 64) -> Tensor:
    """The share of each input value in the difference between a class's logits for the image and for a baseline.

    The gradient is averaged along the straight line from the baseline to the image, at the middles of ``steps`` equal
    parts, and multiplied by their difference. The shares of all values then sum to about the difference of the logits
    (Sundararajan et al. 2017, equation 3 and proposition 1).

    Args:
        model, x, target: as for ``saliency``.
        baseline: an image without content, such as a black one; it must have a shape that expands to that of x.
        steps: the number of gradients, 1 or more.

    Returns:
        (B, C, H, W); negative where a value speaks against the class.
    """
    baseline, total = baseline.expand_as(x), torch.zeros_like(x)
    shares = (torch.arange(steps, dtype=x.dtype, device=x.device) + 0.5) / steps
    for i in range(len(x)):
        for part in shares.split(BATCH):
            path = baseline[i] + part.view(-1, 1, 1, 1) * (x[i] - baseline[i])  # (part, C, H, W)
            total[i] += gradient(model, path, target).sum(0)
    return (x - baseline) * total / steps


def maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The outputs of all layers that are maps of the image, (B, channels, h, w) with more than one position, by the
    layers' names. Layers that the forward pass does not call are left out, and so are those that change nothing.
    """
    names = [name for name, module in model.named_modules() if name and not isinstance(module, nn.Identity)]
    return {name: out for name, out in outputs(model, x, names).items() if is_map(out, x)}


def is_map(output: Any, x: Tensor) -> bool:
    """Whether a layer's output is (B, channels, h, w), with more than one position, for images x (B, C, H, W)."""
    return torch.is_tensor(output) and output.ndim == 4 and len(output) == len(x) and output.shape[2:].numel() > 1


def last_map(model: nn.Module, x: Tensor) -> str | None:
    """The name of the layer for Grad-CAM: the last one that has parameters and whose output is a map of the image, or
    its activation function, which is the last layer with a map of that size. None if no layer is such a map.
    """
    with torch.no_grad():
        found = maps(model, x)
    modules = dict(model.named_modules())
    trained = [out for name, out in found.items() if any(own_parameters(m) for m in modules[name].modules())]
    if not trained:
        return None
    return [name for name, out in found.items() if out.shape == trained[-1].shape][-1]


def grad_cam(model: nn.Module, x: Tensor, target: int, layer: str) -> Tensor:
    """The regions of the image that speak for a class: the maps of a layer, each weighted by the mean gradient of the
    class's logit with respect to it, summed, and without negative values (Selvaraju et al. 2017, equations 1 and 2).

    Args:
        model, x, target: as for ``saliency``.
        layer: the name of a layer whose output is a map of the image, usually the last one (``last_map``).

    Returns:
        (B, h, w), 0 or more, of the size of the layer's maps.

    Raises:
        ZooError: the layer is unknown, or its output is no map of the image; the message lists the valid layers.
    """
    check_names(model, [layer])
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        found = outputs(model, x, [layer, ""])  # the maps (B, K, h, w), and the logits
        if not is_map(found.get(layer), x):
            valid = ", ".join(maps(model, x)) or "none, as this model has no such layer"
            raise ZooError(f"the output of {layer} is no map of the image, which Grad-CAM needs; valid: {valid}")
        slopes = torch.autograd.grad(found[""][:, target].sum(), found[layer])[0]
    weights = slopes.mean((2, 3), keepdim=True)  # (B, K, 1, 1)
    return (weights * found[layer].detach()).sum(1).relu()


def activations(model: nn.Module, x: Tensor, layer: str) -> Tensor:
    """The activations of a layer's units, (B, units): a layer of maps has a unit for each channel, whose activation is
    the mean over all positions.

    Raises:
        ZooError: the layer is unknown or not called, or its output has no axis of units.
    """
    out: Any = features(model, x, [layer])[layer]
    if not torch.is_tensor(out) or out.ndim not in (2, 4):
        raise ZooError(f"the output of {layer} is neither a map of the image nor a row of units; name another layer")
    return out if out.ndim == 2 else out.mean((2, 3))


def maximise(
    model: nn.Module,
    layer: str,
    units: Sequence[int],
    low: Tensor,
    high: Tensor,
    size: int,
    steps: int = 256,
    lr: float = 0.05,
    decay: float = 1e-3,
    jitter: int = 2,
    seed: int = 0,
) -> Tensor:
    """Images that activate units of a layer most: gradient ascent from noise on the unit's activation minus ``decay``
    times the squared norm of the image (Simonyan et al. 2014, equation 1), by Adam.

    Args:
        model: a model of images.
        layer: the name of a layer, as in ``model.named_modules()``.
        units: the numbers of the units, one image for each; a layer of maps has a unit for each channel.
        low, high: the smallest and largest value of each channel of the input, (C,), between which it stays.
        size: the height and width of the images in pixels.
        steps: the number of steps, 1 or more.
        lr: the learning rate.
        decay: the weight of the squared norm, 0 or more; a larger one leaves out what matters little to the unit.
        jitter: in each step the image is moved by up to so many pixels in either direction, at random, so that it does
            not fit single pixels (Mordvintsev, Olah, Tyka 2015); 0 leaves it in place.
        seed: the seed of the noise and of the movements.

    Returns:
        (len(units), C, size, size).

    Raises:
        ZooError: the layer is unknown, or has no such unit.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = (limit.view(1, -1, 1, 1) for limit in (low, high))
    noise = torch.randn(len(units), low.shape[1], size, size, generator=generator)
    x = (0.1 * noise).clamp(low, high).requires_grad_()
    with torch.no_grad():
        count = activations(model, x[:1], layer).shape[1]
    if wrong := [unit for unit in units if not 0 <= unit < count]:
        raise ZooError(f"{layer} has no unit {wrong[0]}; valid: 0 to {count - 1}")
    optimizer = torch.optim.Adam([x], lr=lr, maximize=True)
    chosen = torch.tensor(list(units)).view(-1, 1)
    with torch.enable_grad():
        for _ in range(steps):
            down, right = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            moved = x.roll((down, right), (2, 3))
            score = activations(model, moved, layer).gather(1, chosen).sum() - decay * x.square().sum()
            (x.grad,) = torch.autograd.grad(score, x)
            optimizer.step()
            with torch.no_grad():
                x.clamp_(low, high)
    return x.detach()
