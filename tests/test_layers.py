"""Layers that families share: the poolings of lecture 16.3."""

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.errors import ZooError
from zoo.layers import POOLS, make_pool

SLIDE = torch.tensor([[2.0, 3, 2, 0], [5, -2, 2, 8], [-1, -6, 7, 3], [-4, -5, 4, 2]])[None, None]

REDUCE = {
    "max": lambda squares: squares.amax(2),
    "avg": lambda squares: squares.mean(2),
    "min": lambda squares: squares.amin(2),
    "l2": lambda squares: squares.norm(dim=2),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max", [[5, 8], [-1, 7]]),  # as printed
        ("avg", [[2, 3], [-4, 4]]),
        ("min", [[-2, 0], [-6, 2]]),
        ("l2", [[42**0.5, 72**0.5], [78**0.5, 78**0.5]]),
    ],
)  # fmt: skip
def test_the_slides_map(name, expected):
    torch.testing.assert_close(make_pool(name, 2)(SLIDE)[0, 0], torch.tensor(expected, dtype=torch.float32))


def test_every_pool_is_tested():
    assert set(POOLS) == set(REDUCE)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, None, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_against_squares_one_by_one(name, kernel_size, stride, padding):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9)
    edge = {"max": -torch.inf, "min": torch.inf}.get(name, 0.0)
    padded = F.pad(x, [padding] * 4, value=edge)
    step = stride or kernel_size
    squares = padded.unfold(2, kernel_size, step).unfold(3, kernel_size, step)  # (B, C, H', W', k, k)
    found = make_pool(name, kernel_size, stride, padding)(x)
    torch.testing.assert_close(found, REDUCE[name](squares.flatten(4).permute(0, 1, 4, 2, 3)))


@pytest.mark.parametrize("name", POOLS)
def test_gradients(name):
    """Against differences; and finite where all of a square is 0, which the L2 norm's formula is not."""
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(make_pool(name, 3, 2), x)
    zeros = torch.zeros(1, 1, 4, 4, requires_grad=True)
    y = make_pool(name, 2)(zeros)
    y.sum().backward()
    torch.testing.assert_close(y, torch.zeros_like(y))
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize("name", POOLS)
def test_lenet5_with_any_pool(name):
    torch.manual_seed(0)
    x = torch.randn(2, 1, 28, 28)
    logits = zoo.create("lenet5", pool=name)(x)
    logits.sum().backward()
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_an_unknown_pool():
    with pytest.raises(ZooError, match="pool=median is unknown; valid: max, avg, min, l2"):
        make_pool("median", 2)
