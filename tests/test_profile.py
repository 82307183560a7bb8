"""Receptive fields and multiply-adds: the lecture's growth, published values, and agreement with gradients."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import zoo
from zoo.models.residual import Bottleneck
from zoo.pretrained.features import features
from zoo.use.profile import Layer, layer_table, profile
from zoo.use.receptive import Axis


def layers(model: nn.Module, *size: int) -> dict[str, Layer]:
    """By name, for an image of that size."""
    return {layer.name: layer for layer in profile(model.eval().float(), torch.randn(1, *size))}


def field(model: nn.Module, layer: str, *size: int) -> tuple[float, float]:
    """The field's size and jump, which must be the same for both axes."""
    found = layers(model, *size)[layer].field
    assert found
    assert len(set(found)) == 1
    return found[0].size, found[0].jump


# --- known values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "stride"), [(3, 2), (3, 1), (5, 3), (4, 4)])
def test_the_lectures_growth(length, stride):
    """m convolutions of length l and stride s: 1 + (l − 1)(s^m − 1)/(s − 1), which is O(l s^m); 3, 7, 15, 31 for the
    slide's l = 3, s = 2."""
    model = nn.Sequential(*[nn.Conv1d(1, 1, length, stride) for _ in range(5)])
    found = layers(model, 1, 2000)
    for m in range(1, 6):
        (axis,) = found[str(m - 1)].field or ()
        powers = sum(stride**i for i in range(m))  # (s^m − 1)/(s − 1)
        assert axis == Axis(0, (length - 1) * powers, stride**m)
        assert stride == 1 or axis.size <= length * stride**m
    if (length, stride) == (3, 2):
        assert [layer.field[0].size for name, layer in found.items() if name and layer.field] == [3, 7, 15, 31, 63]


@pytest.mark.parametrize(
    ("name", "layer", "size", "expected"),
    [
        ("lenet5", "conv1", (1, 28, 28), (5, 1)),
        ("lenet5", "conv2", (1, 28, 28), (14, 2)),
        ("lenet5", "pool2", (1, 28, 28), (16, 4)),
        ("lenet5", "fc.fc1", (1, 28, 28), (32, 0)),  # all of the padded image
        ("lenet5_1998", "s4", (1, 28, 28), (16, 4)),
        ("lenet5_1998", "c5", (1, 28, 28), (32, 4)),
        ("resnet20", "layer3", (3, 32, 32), (81, 4)),
        ("resnet18", "layer4", (3, 224, 224), (435, 32)),
        ("resnet50", "layer4", (3, 224, 224), (427, 32)),
        ("googlenet", "inception5b", (3, 224, 224), (715, 32)),
    ],
)
def test_models_of_the_zoo(name, layer, size, expected):
    assert field(zoo.create(name), layer, *size) == expected


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("alexnet", "features.12", (195, 32)),
        ("vgg16", "features.30", (212, 32)),
        ("mobilenet_v2", "features", (491, 32)),
    ],
)
def test_models_of_others(name, layer, expected):
    """Values of Araujo, Norris, Sim: "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019."""
    with torch.device("meta"):
        assert field(torchvision.models.get_model(name, weights=None), layer, 3, 224, 224) == expected


@pytest.mark.parametrize(("depth", "size"), [(50, 483), (101, 1027), (152, 1507)])
def test_residual_nets_as_published(depth, size):
    """Araujo et al. again: with the stride in a bottleneck's first 1×1, as in He 2016, its 3×3 sees more."""
    with torch.device("meta"):
        model = zoo.create(f"resnet{depth}")
    for block in model.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    found = {layer.name: layer for layer in profile(model.eval(), torch.zeros(1, 3, 224, 224, device="meta"))}
    assert [axis.size for axis in found["layer4"].field or ()] == [size, size]


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "resnet50", "googlenet", "mobilenet_v2", "densenet121"]
)
def test_multiply_adds_as_torchvision_publishes(name):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    arguments = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **arguments)
        if name == "googlenet":
            model.aux1 = model.aux2 = None
        all_of_it = profile(model.eval(), torch.zeros(1, 3, 224, 224))[0]
    assert all_of_it.name == ""
    assert all_of_it.parameters == published["num_params"]
    assert all_of_it.multiply_adds / 1e9 == pytest.approx(published["_ops"], abs=0.0006)


def test_multiply_adds_by_hand():
    found = layers(zoo.create("lenet5_1998"), 1, 28, 28)
    expected = {"c1": 6 * 25 * 28**2, "c3": 60 * 25 * 10**2, "c5": 120 * 16 * 25, "f6": 84 * 120, "s2": 0}
    expected["c3"] = 16 * 6 * 25 * 10**2  # computed as a dense kernel, of which 60 of the 96 pairs are there
    assert {name: found[name].multiply_adds for name in expected} == expected
    assert found[""].multiply_adds == sum(expected.values())


# --- against gradients ------------------------------------------------------------------------------------------------


def seen(model: nn.Module, layer: str, *size: int) -> list[tuple[int, int]]:
    """Measured: the first and the last input, per axis, that the middle output of a layer has a gradient for, with
    positive weights and images, so that nothing cancels and no ReLU stops it, and means for maxima."""
    model = model.eval().double()
    for module in model.modules():
        for p in module.parameters(recurse=False):
            nn.init.constant_(p, 1 / p[0].numel() if p.ndim > 1 else 0.0)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.ones_(module.weight)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                k, s, p = child.kernel_size, child.stride, child.padding
                setattr(parent, name, nn.AvgPool2d(k, s, p, ceil_mode=child.ceil_mode))
    x = torch.ones(1, *size, dtype=torch.double, requires_grad=True)
    out = features(model, x, [layer])[layer][0].sum(0)  # (H, W) or (T)
    (gradient,) = torch.autograd.grad(out[tuple(n // 2 for n in out.shape)], x)
    touched = gradient[0].sum(0).nonzero()
    return [(int(a), int(b)) for a, b in zip(touched.amin(0), touched.amax(0), strict=True)]


def predicted(model: nn.Module, layer: str, *size: int) -> list[tuple[float, float]]:
    """The same from the field of the layer."""
    found = layers(model, *size)[layer]
    middle = [int(n) // 2 for n in found.output.split("×")[1:]]
    assert found.field
    return [(a.first + i * a.jump, a.last + i * a.jump) for a, i in zip(found.field, middle, strict=True)]


class Odd(nn.Module):
    """What no module shows: padding on one side, every second pixel, sums of branches of unlike fields."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, (3, 5), stride=(1, 2), dilation=(2, 1))
        self.other = nn.Conv2d(2, 2, 1, stride=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(F.pad(x, (3, 1, 0, 4)))
        b = self.other(x)[:, :, : a.shape[2], : a.shape[3]]
        c = torch.cat([F.relu(a), b + 1], 1)[:, ::3, 1:-2:3]
        return F.avg_pool2d(c * 2, 2, 1).unflatten(1, (1, -1)).transpose(1, 2).flatten(1, 2)


SEQUENTIAL = {
    "plain": ([nn.Conv2d(1, 2, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 5, 1, 2)], (1, 64, 64)),
    "dilated": ([nn.Conv2d(1, 2, 3, 1, 2, 2), nn.Conv2d(2, 1, 3, 2, dilation=3), nn.AvgPool2d(2)], (1, 64, 64)),
    "oblong": ([nn.Conv2d(1, 2, (3, 7), (2, 1)), nn.MaxPool2d((1, 4)), nn.LPPool2d(1, 2)], (1, 64, 64)),
    "ceil": ([nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(1, 1, 3), nn.MaxPool2d(2, ceil_mode=True)], (1, 59, 64)),
    "adaptive": ([nn.Conv2d(1, 1, 3, 1, 1), nn.AdaptiveAvgPool2d(8), nn.Conv2d(1, 1, 3)], (1, 64, 64)),
    "padded": ([nn.ZeroPad2d((5, 1, 0, 2)), nn.Conv2d(1, 1, 3, 3), nn.ReplicationPad2d((1, 0, 2, 3))], (1, 64, 64)),
    "enlarged": ([nn.Conv2d(1, 1, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, 2)], (1, 65, 65)),
    "sound": ([nn.Conv1d(2, 3, 9, 4), nn.BatchNorm1d(3), nn.AvgPool1d(4), nn.Conv1d(3, 1, 3)], (2, 400)),
    "normalised": ([nn.Conv2d(1, 6, 3), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2)], (1, 64, 64)),
    "shuffled": ([nn.Conv2d(1, 8, 3), nn.ChannelShuffle(2), nn.Conv2d(8, 8, 3, 2, groups=2)], (1, 64, 64)),
    "odd": ([Odd()], (2, 64, 64)),
    "everywhere": ([nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1)], (1, 20, 20)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_fields_are_what_has_a_gradient(name):
    parts, size = SEQUENTIAL[name]
    model, layer = nn.Sequential(*parts), str(len(parts) - 1)
    assert predicted(model, layer, *size) == seen(model, layer, *size)


@pytest.mark.parametrize(
    ("name", "arguments", "layer", "size"),
    [
        ("resnet20", {"width": 4}, "layer3", 128),
        ("resnet20", {"width": 4, "preact": True, "shortcut": "B"}, "layer3", 128),
        ("resnet18", {}, "layer3", 320),
        ("googlenet", {"width": 0.1}, "inception4d", 512),
        ("googlenet", {"width": 0.1, "batch_norm": False}, "inception4a", 384),
        ("googlenet_cifar", {"width": 0.1}, "inception4a", 128),
        ("lenet5", {"image_size": 64}, "pool2", 64),
    ],
)
def test_branches_are_what_has_a_gradient(name, arguments, layer, size):
    model = zoo.create(name, **arguments)
    channels = 1 if name == "lenet5" else 3
    expected = seen(model, layer, channels, size, size)
    assert all(first > 0 and last < size - 1 for first, last in expected)  # not cut off by the image's border
    assert predicted(model, layer, channels, size, size) == expected


def test_transposed_convolution():
    """At most ⌈3/2⌉ inputs make an output; outputs are half an input apart."""
    assert field(nn.Sequential(nn.ConvTranspose2d(1, 1, 3, 2)), "0", 1, 16, 16) == (2, 0.5)


# --- what a model may be ----------------------------------------------------------------------------------------------


class Gate(nn.Module):
    """Squeeze and excitation: each output depends on the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def test_what_sees_everything():
    found = layers(nn.Sequential(nn.Conv2d(1, 7, 3, padding=1), Gate(), nn.Conv2d(7, 2, 3)), 1, 20, 20)
    assert found["0"].field == (Axis(-1, 1, 1),) * 2
    assert found["1"].field == found["2"].field == (Axis(-1, 20, 0),) * 2
    vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32)
    assert layers(vit, 3, 32, 32)["conv_proj"].field == (Axis(0, 7, 8),) * 2
    assert layers(vit, 3, 32, 32)[""].field == (Axis(0, 31, 0),) * 2


class Strange(nn.Module):
    """One layer called twice, one never, a product of its own, and an output that does not depend on the image."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(2, 2, 3, padding=1)
        self.never = nn.Linear(5, 5)
        self.constant = nn.Embedding(4, 3)
        self.weight = nn.Parameter(torch.ones(200, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.twice(self.twice(x))
        return {"a": x.flatten(1) @ self.weight, "b": self.constant(torch.tensor([1]))}


def test_strange_models():
    model, x = Strange().eval(), torch.randn(1, 2, 10, 10)
    found = {layer.name: layer for layer in profile(model, x)}
    assert list(found) == ["", "twice", "constant"]
    assert (found["twice"].multiply_adds, found["twice"].parameters) == (2 * 36 * 100, 38)
    assert found["twice"].field == (Axis(-2, 2, 1),) * 2
    assert (found[""].own_multiply_adds, found[""].multiply_adds) == (600, 7800)
    assert found["constant"].field is None
    assert found[""].output == "3, 3"
    table = layer_table(model, x)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["(itself)", "twice", "never", "constant"]
    assert cells[3] == ["600", "38", "30", "12"]
    assert cells[4] == ["600", "7,200", "", ""]
    assert cells[5] == ["all", "5×5", "", ""]
    assert cells[6] == ["", "1", "", ""]
    assert [table.columns[i].footer for i in (3, 4)] == ["680", "7,800"]


def test_nothing_is_left_behind():
    """No hooks, no change of the weights, and the same when an error ends the pass."""
    model = zoo.create("lenet5").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (profile(model, torch.randn(1, 1, 28, 28)) for _ in range(2))
    assert first == second
    with pytest.raises(RuntimeError):
        profile(model, torch.randn(1, 3, 28, 28))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_table_of_what_takes_no_images():
    table = layer_table(nn.Sequential(nn.Embedding(7, 3), nn.Identity(), nn.LSTM(3, 5)), None)
    assert [list(column.cells) for column in table.columns] == [
        ["0", "2"], ["Embedding(7, 3)", "LSTM(3, 5)"], ["", ""], ["21", "200"]
    ]  # fmt: skip
    assert table.columns[3].footer == "221"


def test_table_of_layers():
    model = nn.Sequential(nn.Conv2d(1, 2, (3, 5), (2, 1)), nn.MaxPool2d(3, 2), nn.Conv2d(2, 1, 2), nn.Flatten())
    table = layer_table(model.eval(), torch.randn(1, 1, 17, 17))
    assert [list(column.cells) for column in table.columns[:3]] == [
        ["0", "1", "2", "3"],
        ["Conv2d 3×5, stride 2×1", "MaxPool2d 3×3, stride 2", "Conv2d 2×2", "Flatten"],
        ["2×8×13", "2×3×6", "1×2×5", "10"],
    ]
    assert [list(column.cells) for column in table.columns[5:]] == [
        ["3×5", "7×7", "11×9", "15×17"],
        ["2×1", "4×2", "4×2", ""],
    ]


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_recurrent_multiply_adds(cell, gates, backend):
    """A step of a layer is gates · hidden · (in + hidden), of torch's kernels, which its counter passes over, too."""
    model = zoo.create(cell, num_classes=65, vocab_size=65, hidden=16, embedding=8, backend=backend).eval()
    layers = {layer.name: layer for layer in profile(model, torch.randint(65, (1, 10)))}
    expected = 10 * gates * 16 * (8 + 16)
    assert layers["layers.0.0"].multiply_adds == expected
    assert layers[""].multiply_adds == expected + 10 * 16 * 65
