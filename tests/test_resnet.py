"""Residual networks: published sizes, the papers' equations, parity with torchvision."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

import zoo
from zoo.config.registry import model_config
from zoo.errors import ZooError
from zoo.models.residual import BasicBlock, Block, Bottleneck, PreActBlock, PreActBottleneck
from zoo.models.resnet import CifarResNet, ResNet
from zoo.paths import CONFIGS
from zoo.pretrained.features import features
from zoo.pretrained.transfer import copy_weights

CIFAR = {
    "resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962,
    "plain20": 269_722, "plain56": 853_018,
}  # fmt: skip
IMAGENET = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}  # fmt: skip
MILLIONS = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}  # table 6


def on_meta(name: str, **arguments) -> nn.Module:
    """Without memory: shapes only."""
    with torch.device("meta"):
        return zoo.create(name, **arguments)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def randomise(model: nn.Module) -> None:
    """Norms that are no identity, as after training: weights, biases and running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CIFAR, *IMAGENET])
def test_published_size(name):
    """Parameters to the last one; as many layers with weights, without the projections, as the name says."""
    model = on_meta(name)
    assert count(model) == (CIFAR | IMAGENET)[name]
    if name in MILLIONS:  # as printed, to two digits
        assert float(f"{count(model) / 1e6:.2g}") == MILLIONS[name]
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in n]
    assert len(layers) == int("".join(filter(str.isdigit, name)))
    assert not any(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", [*CIFAR, *IMAGENET])
def test_configs_are_the_same_by_name_and_by_hydra(name):
    """What ``defaults`` brings: ``zoo.create(name)`` and ``model=name``; every argument is given."""
    own = model_config(name)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"model={name}", "data=cifar10", "name=test"])
    by_hydra = OmegaConf.to_container(cfg.model, resolve=True)
    assert by_hydra == own | {"num_classes": 10, "in_channels": 3}
    assert own["_target_"].endswith(".CifarResNet" if name in CIFAR else ".ResNet")


def test_sizes_of_the_maps():
    """2016a: table 1, and 32, 16, 8 px for CIFAR; with stem=cifar a 224 px net keeps 32 px whole."""
    stages = ["conv1", "layer1", "layer2", "layer3"]
    x = torch.randn(2, 3, 32, 32)
    maps = features(CifarResNet(), x, stages)
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    small = features(ResNet(depth=18, stem="cifar", num_classes=10), x, [*stages, "layer4", "head"])
    assert [tuple(m.shape[1:]) for m in small.values()] == [
        (64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (10,),
    ]  # fmt: skip
    large = features(on_meta("resnet50"), torch.empty(1, 3, 224, 224, device="meta"), [*stages, "maxpool", "layer4"])
    assert [tuple(m.shape[1:]) for m in large.values()] == [
        (64, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (64, 56, 56), (2048, 7, 7),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("resnet20", {"num_classes": 0}, (2, 64)),
        ("resnet20", {"num_classes": 7, "in_channels": 1, "width": 8, "depth": 8, "dropout": 0.5}, (2, 7)),
        ("resnet20", {"shortcut": "B", "preact": True, "depth": 8}, (2, 10)),
        ("plain20", {"preact": True}, (2, 10)),
        ("resnet18", {"num_classes": 0}, (2, 512)),
        ("resnet50", {"num_classes": 0, "stem": "cifar", "in_channels": 1}, (2, 2048)),
    ],
)  # fmt: skip
def test_arguments(name, arguments, shape):
    x = torch.empty(2, arguments.get("in_channels", 3), 32, 32, device="meta")
    assert on_meta(name, **arguments)(x).shape == shape


@pytest.mark.parametrize("arguments", [{}, {"preact": True}, {"shortcut": "B"}, {"shortcut": "none"}])
def test_every_parameter_learns(arguments):
    torch.manual_seed(0)
    model = CifarResNet(**arguments)
    loss = F.cross_entropy(model(torch.randn(10, 3, 32, 32)), torch.arange(10))
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", ["resnet20", "resnet110", "plain56", "resnet18"])
def test_the_first_loss_is_that_of_guessing(name):
    """Though z grows from block to block, the deeper the more."""
    torch.manual_seed(0)
    logits = zoo.create(name, num_classes=10)(torch.randn(20, 3, 32, 32))
    assert F.cross_entropy(logits, torch.arange(20) % 10).item() == pytest.approx(math.log(10), abs=0.2)


def test_dropout_is_of_the_pooled_features():
    model = CifarResNet(depth=8, num_classes=0, dropout=0.5)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        dropped, kept = model(x), features(model, x, ["layer3"])["layer3"].mean((2, 3))
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * kept[dropped != 0])
    model.eval()
    assert torch.equal(model(x), model(x))


def test_what_is_not_valid_is_named():
    with pytest.raises(ZooError, match=r"depth=18 is not 6n \+ 2; valid: 8, 14, 20"):
        zoo.create("resnet20", depth=18)
    with pytest.raises(ZooError, match=r"depth=2 is not 6n \+ 2"):
        zoo.create("resnet20", depth=2)
    with pytest.raises(ZooError, match="shortcut=C is unknown; valid: A, B, none"):
        zoo.create("resnet20", shortcut="C")
    with pytest.raises(ZooError, match=r"zero_init_residual=true .* valid: shortcut=A, B"):
        zoo.create("plain20", zero_init_residual=True)
    with pytest.raises(ZooError, match="depth=20 is unknown; valid: 18, 34, 50, 101, 152"):
        zoo.create("resnet18", depth=20)
    with pytest.raises(ZooError, match="stem=mnist is unknown; valid: imagenet, cifar"):
        zoo.create("resnet18", stem="mnist")


# --- equations ----------------------------------------------------------------------------------------------------


def branch(block: Block, z: Tensor) -> tuple[Tensor, Tensor]:
    """f(z) written out, and what a projection sees."""
    preact = isinstance(block, (PreActBlock, PreActBottleneck))
    names = ["1", "2", "3"][: 2 if isinstance(block, (BasicBlock, PreActBlock)) else 3]
    seen, f = z, z
    for i in names:
        kernel, norm = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")

        def normalise(x: Tensor, norm: nn.BatchNorm2d = norm) -> Tensor:
            mean, var, weight, bias = (
                t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            return (x - mean) / (var + 1e-5).sqrt() * weight + bias

        if preact:
            f = normalise(f).clamp(min=0)
            seen = f if i == "1" else seen
        f = F.conv2d(f, kernel.weight, stride=kernel.stride, padding=kernel.weight.shape[-1] // 2)
        if not preact:
            f = normalise(f)
            f = f if i == names[-1] else f.clamp(min=0)
    return f, seen


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActBlock, PreActBottleneck])
@pytest.mark.parametrize("shortcut", ["A", "B", "none"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_its_equation(block, shortcut, stride):
    """z = g(z + f(z)) with g = ReLU (2016a), or g the identity and activations first (2016b); plain: g(f(z))."""
    torch.manual_seed(0)
    preact = block in (PreActBlock, PreActBottleneck)
    width = 4 // block.expansion if stride == 1 else 8 // block.expansion
    layer = block(4, width, stride, shortcut).double().eval()
    randomise(layer)
    z = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    f, seen = branch(layer, z)
    if shortcut == "none":
        total = f
    elif stride == 1:
        total = z + f
    elif shortcut == "A":
        total = f + torch.cat([z[:, :, ::2, ::2], torch.zeros(2, 4, 5, 5)], dim=1)
    elif preact:
        total = f + F.conv2d(seen, layer.downsample[0].weight, stride=2)
    else:
        total = f + layer.downsample[1](F.conv2d(z, layer.downsample[0].weight, stride=2))
    torch.testing.assert_close(layer(z), total if preact else total.clamp(min=0))


def test_option_a_has_no_parameters():
    """So ResNet and plain net have the same weights, by the same names, and differ by the shortcuts only."""
    residual, plain = CifarResNet(), CifarResNet(shortcut="none")
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(residual.eval()(x), plain.eval()(x))
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert count(CifarResNet(shortcut="B")) == 269_722 + projections


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50"])
def test_a_zero_branch_is_the_identity(name, preact):
    """Every block that keeps the size gives back its input, in training too; g leaves what is not negative as it is."""
    torch.manual_seed(0)
    arguments = {"preact": preact} | ({"depth": 14} if name == "resnet20" else {})
    changed = zoo.create(name, **arguments)
    model = zoo.create(name, zero_init_residual=True, **arguments)
    tested = 0
    for block, other in zip(model.modules(), changed.modules(), strict=True):
        if isinstance(block, Block) and isinstance(block.downsample, nn.Identity):
            channels = block.conv1.in_channels
            z = torch.randn(2, channels, 4, 4) if preact else torch.rand(2, channels, 4, 4)
            assert torch.equal(block(z), z)
            assert not torch.allclose(other(z), z)
            zero = [n for n, p in block.named_parameters() if n.endswith("weight") and not p.any()]
            last = 3 if isinstance(block, (Bottleneck, PreActBottleneck)) else 2
            assert zero == [f"conv{last}.weight" if preact else f"bn{last}.weight"]
            tested += 1
    assert tested == {"resnet20": 4, "resnet18": 5, "resnet50": 12}[name]


def test_pre_activation_in_the_whole_net():
    """2016b, appendix: the stem's activation serves both paths of the first block, another follows the last sum."""
    torch.manual_seed(0)
    model = CifarResNet(depth=8, preact=True).eval()
    randomise(model)
    x = torch.randn(2, 3, 32, 32)
    found = features(model, x, ["bn1", "layer1", "layer3"])
    first = model.layer1[0]
    z = F.relu(found["bn1"])
    torch.testing.assert_close(found["layer1"], z + first.conv2(F.relu(first.bn2(first.conv1(z)))))
    last = F.relu(model.norm[0](found["layer3"]))
    torch.testing.assert_close(model(x), model.head(last.mean((2, 3))))
    assert count(CifarResNet(preact=True)) == 269_722  # each norm only moves
    norms = sum(count(m) for n, m in on_meta("resnet50").named_modules() if n.endswith("downsample.1"))
    assert norms > 0
    assert count(on_meta("resnet50", preact=True)) == IMAGENET["resnet50"] - norms


def test_he_initialisation():
    """Variance 2 / (k² · outputs), mean 0; norms start as the identity."""
    torch.manual_seed(0)
    model = CifarResNet()
    kernel = model.layer3[1].conv1.weight
    assert kernel.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert kernel.mean().item() == pytest.approx(0, abs=0.002)
    assert model.layer2[0].conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.03)
    assert all((m.weight == 1).all() for m in model.modules() if isinstance(m, nn.BatchNorm2d))


# --- torchvision --------------------------------------------------------------------------------------------------


def ours(name: str) -> str:
    """A torchvision tensor's name in the zoo's model."""
    prefix, dot, rest = name.partition(".")
    return f"{ResNet.torchvision_names.get(prefix, prefix)}{dot}{rest}"


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [False, True])
def test_parity_with_torchvision(name, training):
    """Outputs, and gradients of every parameter and of the input, after copying weights."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=10).train(training)
    randomise(theirs)
    model = zoo.create(name, num_classes=10).train(training)
    rows = copy_weights(model, {ours(k): v for k, v in theirs.state_dict().items()})
    assert {row.status for row in rows} == {"copied"}
    x = torch.randn(4, 3, 64, 64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    results = []
    for net, image in zip((model, theirs), inputs, strict=True):
        logits = net(image)
        F.cross_entropy(logits, torch.arange(4)).backward()
        results.append(logits)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    gradients = {n: p.grad for n, p in model.named_parameters()}
    for n, p in theirs.named_parameters():
        torch.testing.assert_close(gradients[ours(n)], p.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("name", IMAGENET)
def test_every_torchvision_weight_has_its_place(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    assert {ours(k): v.shape for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in on_meta(name).state_dict().items()
    }
