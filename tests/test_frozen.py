"""Frozen layers of every model: two passes in training mode are equal, and tensors stay as they are to the last bit."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.config.checks import locate
from zoo.config.registry import model_config
from zoo.contracts import Story
from zoo.pretrained.transfer import Row, freeze, head_names, under
from zoo.run.report import weight_table

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in zoo.list_models()},
    "mlp with norms": ("mlp", {"batch_norm": True}),
    "lenet5 with norms": ("lenet5", {"batch_norm": True}),
    "vae of convolutions": ("vae", {"channels": [4, 8]}),
    "lstm by equations": ("lstm", {"backend": "reference", "recurrent_dropout": 0.5, "layer_norm": True, "depth": 2}),
    "gru in both directions": ("gru", {"bidirectional": True, "variational": True, "depth": 2}),
    "scan_lstm of two layers": ("scan_lstm", {"depth": 2, "bidirectional": True}),
    "lstm with a tied head": ("lstm", {"tied": True, "depth": 2}),
}

# the same class as a shallower one; these run with the slow tests
DEEP = ("resnet32", "resnet34", "resnet44", "resnet56", "resnet101", "resnet110", "resnet152", "plain56")
SIDES = {"alexnet": 64, "alexnet_2012": 64}
LARGE = (
    "resnet18",
    "resnet50",
    "googlenet",
    "googlenet_cifar",
    "alexnet",
    "alexnet_2012",
    "cuda_convnet_11pct",
    "made",
)


def each(*slow: str, but: tuple[str, ...] = ()) -> list[Any]:
    return [pytest.param(v, marks=[pytest.mark.slow] if v in slow else []) for v in VARIANTS if v not in but]


def with_dropout(variant: str) -> tuple[nn.Module, Tensor]:
    """A model in training mode with every dropout that it has, and two examples."""
    name, arguments = VARIANTS[variant]
    known = inspect.signature(locate(model_config(name)["_target_"], "model")).parameters
    drops = {key: 0.5 for key in known if key.endswith("dropout") and key != "recurrent_dropout"}
    torch.manual_seed(0)
    if name == "seq2seq":
        return zoo.create(name, vocab_size=20, **drops), torch.randint(1, 20, (2, 2, 5))
    if name == "conv_lstm":
        return zoo.create(name, num_classes=20, in_features=16, **drops), torch.rand(2, 40, 16)
    if "vocab_size" in known:
        return zoo.create(name, num_classes=20, vocab_size=20, **(drops | arguments)), torch.randint(20, (2, 5))
    if name == "glac":
        sizes = {"num_classes": 20, "in_features": 6, "width": 8, "hidden": 8, "embedding": 4}
        words = torch.randint(20, (4, 6))
        x: Any = Story(torch.randn(4, 2, 6), words, torch.arange(6).expand(4, -1) // 3)
        return zoo.create(name, **(drops | sizes)), x
    if name == "googlenet_cifar":
        drops["num_classes"] = 10
    if name == "alexnet_2012":
        drops["image_size"] = 64
    side = SIDES.get(name) or (known["image_size"].default if "image_size" in known else 32)
    channels = known["in_channels"].default
    return zoo.create(name, **(drops | arguments)), torch.rand(2, channels, side, side)


def layers_of(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if list(module.parameters(recurse=False))]


def steps(model: nn.Module, x: Tensor) -> set[str]:
    """The tensors that an update with momentum and weight decay changes."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    model.train()(x).square().mean().backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("variant", each(*DEEP))
def test_all_but_the_head(variant):
    model, x = with_dropout(variant)
    last = layers_of(model)[-1:]  # of a model without a head
    heads = [name for name in head_names(model) if any(under(layer, name) for layer in layers_of(model))] or last
    if heads == [""]:  # a model that is one layer
        frozen, heads = freeze(model, ["weight"]), ["mean", "log_variance"]
    else:
        frozen = freeze(model, [f"!{name}" for name in heads])
    assert frozen == [name for name in model.state_dict() if not any(under(name, head) for head in heads)]
    assert torch.equal(model.train()(x), model(x))
    changed = steps(model, x)
    assert not changed & set(frozen)
    assert changed or variant in ("gan", "dcgan"), "the generator is last, and judges nothing"


@pytest.mark.parametrize("variant", each(*DEEP, *LARGE, but=("ppca", "linear")))
def test_the_first_layer(variant):
    """What it gives stands still, and the dropout and noise of its input with it; no other tensor is held."""
    model, x = with_dropout(variant)
    first = layers_of(model)[0]
    frozen = freeze(model, [first])
    assert frozen == [name for name in model.state_dict() if under(name, first)]
    given: list[Tensor] = []
    module = model.get_submodule(first)
    module.register_forward_hook(lambda _m, _x, output: given.append(output[0] if type(output) is tuple else output))
    model.train()(x)
    model(x)
    half = len(given) // 2  # a generator's first layer is not called, and a translator's twice in each pass
    assert all(torch.equal(one, other) for one, other in zip(given[:half], given[half:], strict=True))
    assert not steps(model, x) & set(frozen)


@pytest.mark.parametrize("variant", ["lstm", "gru", "rnn", "lstm by equations", "gru in both directions"])
def test_the_first_recurrent_layers(variant):
    """A frozen layer's dropout is that of its input and of its weights; the next layer's goes on."""
    model: Any
    model, x = with_dropout(variant)
    freeze(model, ["embedding", "layers.0"])
    model.train()
    first = [model.layers[0](model.embed(x))[0] for _ in range(2)]
    assert torch.equal(*first)
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(("name", "frozen"), [("alexnet_cifar", "fc*"), ("lenet5", "fc.fc*"), ("mlp", "layers.fc*")])
def test_dropout_between_two_layers_is_the_second_ones(name, frozen):
    """That of a frozen layer's input stands still, that of the head's is for the head."""
    model = zoo.create(name, dropout=0.5)
    freeze(model, [frozen])
    model.train()
    drops = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p}
    assert drops
    assert {name for name, module in drops.items() if module.training} == set()
    model = zoo.create(name, dropout=0.5)
    first = next(layer for layer in layers_of(model) if layer.endswith(("fc6", "fc1")))
    freeze(model, [first])
    assert any(module.training for module in model.train().modules() if isinstance(module, nn.Dropout) and module.p)


def test_a_frozen_ladder_adds_no_noise():
    """Its layers below the head give the same in each pass, normalised by their averages, as in evaluation."""
    torch.manual_seed(0)
    model: Any = zoo.create("ladder", hidden=[20, 10], costs=[1.0] * 4)
    x, u = torch.rand(6, 1, 28, 28), torch.rand(6, 1, 28, 28)
    model.train().corrupted_and_cost(x, u)  # averages that are not 0 and 1
    assert not torch.equal(model.noisy(u)[1][1], model.noisy(u)[1][1])
    freeze(model, ["layers"])
    model.train()
    before = {name: tensor.clone() for name, tensor in model.layers.state_dict().items()}
    (logits, noisy), (again, _), clean = model.noisy(u), model.noisy(u), model.clean(u)
    assert not torch.equal(logits, again)  # of the head, which is trained
    h = u.flatten(1)
    assert torch.equal(noisy[0], h)
    for layer, z, (plain, mean, deviation) in zip(model.layers, noisy[1:], clean[1:], strict=False):
        expected = layer.norm(layer.linear(h))
        torch.testing.assert_close(z, expected)
        torch.testing.assert_close(plain, expected)
        torch.testing.assert_close(plain * deviation + mean, layer.linear(h))
        h = layer(h)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.layers.state_dict().items())


def test_the_table_marks_what_stands_still():
    """A frozen norm's statistics too; those of a norm that is trained are not marked."""
    model = zoo.create("lenet5", batch_norm=True)
    frozen = freeze(model, ["conv1", "norm1"])
    table = weight_table([Row(name, "copied") for name in model.state_dict()], set(frozen))
    names, marks = (list(table.columns[i].cells) for i in (0, 3))
    marked = {name for name, mark in zip(names, marks, strict=True) if mark == "frozen"}
    assert marked == {"conv1.weight", *(f"norm1.{name}" for name in model.norm1.state_dict())}  # type: ignore[union-attr]
