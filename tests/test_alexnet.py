"""AlexNet and its kin for CIFAR: sizes in the papers, parity with torchvision's, equations, towers on two devices."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.errors import ZooError
from zoo.models.alexnet import AlexNet, AlexNet2012
from zoo.models.alexnet_cifar import CifarAlexNet
from zoo.models.cuda_convnet import CudaConvNet, CudaConvNetLocal, LocallyConnected2d, SameMapNorm
from zoo.pretrained.features import features
from zoo.pretrained.names import new_names
from zoo.pretrained.transfer import copy_weights

SMALL = ["alexnet_cifar", "cuda_convnet", "cuda_convnet_11pct"]


def on_meta(name: str, **arguments) -> nn.Module:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return zoo.create(name, **arguments)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def counts(model: nn.Module) -> dict[str, int]:
    return {name: count(layer) for name, layer in model.named_children() if count(layer)}


def sizes(model: nn.Module, image_size: int, layers: list[str]) -> list[tuple[int, ...]]:
    device = next(model.parameters()).device
    found = features(model.eval(), torch.zeros(1, 3, image_size, image_size, device=device), layers)
    return [tuple(f.shape[1:]) for f in found.values()]


def multiply_adds(model: nn.Module, image_size: int) -> float:
    """Millions for one image."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as flops:
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    return flops.get_total_flops() / 2e6


# --- one tower ----------------------------------------------------------------------------------------------------


def test_alexnet_sizes():
    """Eight layers with weights; 61,100,840 parameters; 27, 13 and 6 px after the poolings."""
    model = on_meta("alexnet")
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "head"]
    assert count(model) == 61_100_840
    assert [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))] == layers
    assert sizes(model, 224, [*layers, "pool"]) == [
        (64, 55, 55), (192, 27, 27), (384, 13, 13), (256, 13, 13), (256, 13, 13), (4096,), (4096,), (1000,),
        (256, 6, 6),
    ]  # fmt: skip
    assert multiply_adds(model, 224) == pytest.approx(714, abs=1)


def test_parity_with_torchvision():
    """Outputs and gradients after copying random weights by torchvision's names."""
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(num_classes=10).eval()
    model = zoo.create("alexnet", num_classes=10).eval()
    assert {row.status for row in copy_weights(model, theirs.state_dict())} == {"copied"}
    with torch.no_grad():
        x = torch.randn(1, 3, 224, 224)
        torch.testing.assert_close(model(x), theirs(x))
    x = torch.randn(2, 3, 80, 80)  # the last maps are not 6×6
    inputs, logits = [x.clone().requires_grad_() for _ in range(2)], []
    for net, image in zip((model, theirs), inputs, strict=True):
        torch.manual_seed(1)  # dropout in the same places gives the same masks
        logits.append(net.train()(image))
        F.cross_entropy(logits[-1], torch.arange(2)).backward()
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], model.eval()(x))
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    ours = new_names(model, theirs.state_dict())
    gradients = {n: p.grad for n, p in model.named_parameters()}
    for n, p in theirs.named_parameters():
        torch.testing.assert_close(gradients[ours[n]], p.grad, msg=lambda m, n=n: f"{n}: {m}")


# --- two towers ---------------------------------------------------------------------------------------------------


def test_alexnet_2012_sizes():
    """2012, figure 2 and section 3.5, of both towers."""
    with torch.device("meta"):
        model = AlexNet2012()
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "pool", "fc6", "fc7"]
    one = sizes(model, 224, [f"tower1.{name}" for name in layers])
    assert one == sizes(model, 224, [f"tower2.{name}" for name in layers])
    both = [(2 * channels, *rest) for channels, *rest in one]
    assert both == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6), (4096,), (4096,),
    ]  # fmt: skip
    neurons = [math.prod(size) for name, size in zip(layers, both, strict=True) if name != "pool"]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096]  # the first is 253,440 in the paper
    assert sum(neurons) + 1000 == pytest.approx(650_000, rel=0.02)
    assert count(model) == 60_965_224
    kernels = {n: tuple(m.weight.shape[1:]) for n, m in model.tower1.named_modules() if isinstance(m, nn.Conv2d)}
    assert kernels == {
        "conv1": (3, 11, 11), "conv2": (48, 5, 5), "conv3": (256, 3, 3), "conv4": (192, 3, 3), "conv5": (192, 3, 3),
    }  # fmt: skip


def test_initial_weights_of_2012():
    """Section 5: N(0, 0.01); biases 1 in conv2, conv4, conv5 and the hidden fully connected layers, else 0."""
    torch.manual_seed(0)
    model = AlexNet2012(num_classes=10, image_size=63)
    for name, p in model.named_parameters():
        layer = name.split(".")[-2]
        if name.endswith("bias"):
            assert (p == (0 if layer in ("conv1", "conv3", "head") else 1)).all(), name
        else:
            assert p.mean().item() == pytest.approx(0, abs=4 * 0.01 / p.numel() ** 0.5), name
            assert p.std().item() == pytest.approx(0.01, rel=0.05), name


def response_norm(a: Tensor, k: float, n: int, alpha: float, beta: float) -> Tensor:
    """2012, section 3.3, unit by unit."""
    b, maps = torch.empty_like(a), a.shape[1]
    for i in range(maps):
        total = torch.zeros_like(a[:, i])
        for j in range(max(0, i - n // 2), min(maps - 1, i + n // 2) + 1):
            total = total + a[:, j] ** 2
        b[:, i] = a[:, i] / (k + alpha * total) ** beta
    return b


def test_response_normalisation():
    """With the constants of the paper and of the 11 % net; torch's layer has α in other units."""
    torch.manual_seed(0)
    a = 100 * torch.rand(2, 12, 3, 4, dtype=torch.float64)
    norm = AlexNet2012(num_classes=2, image_size=63).tower1.norm
    torch.testing.assert_close(norm(a), response_norm(a, k=2, n=5, alpha=1e-4, beta=0.75))
    torch.testing.assert_close(norm(a), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(a))
    for norm in (CudaConvNetLocal().norm1, CudaConvNetLocal().norm2):
        torch.testing.assert_close(norm(a), response_norm(a, k=1, n=9, alpha=0.001 / 9, beta=0.75))


def in_one_tensor(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """2012's net with both towers' maps in one tensor, their convolutions as two groups of one.

    Args:
        p: the towers' parameters by their layers' names, one tower's after the other's; and the head's.
    """

    def norm(x: Tensor) -> Tensor:
        return torch.cat([F.local_response_norm(half, 5, 5e-4, 0.75, 2.0) for half in x.chunk(2, 1)], 1)

    def conv(x: Tensor, name: str, groups: int, **arguments: int) -> Tensor:
        return F.relu(F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], groups=groups, **arguments))

    x = F.max_pool2d(norm(conv(x, "conv1", 1, stride=4, padding=2)), 3, 2)
    x = F.max_pool2d(norm(conv(x, "conv2", 2, padding=2)), 3, 2)
    x = conv(x, "conv3", 1, padding=1)
    x = conv(x, "conv4", 2, padding=1)
    x = F.max_pool2d(conv(x, "conv5", 2, padding=1), 3, 2).flatten(1)
    for name in ("fc6", "fc7"):
        x = F.relu(F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"]))
    return F.linear(x, p["head.weight"], p["head.bias"])


@pytest.fixture(scope="module")
def towers() -> tuple[AlexNet2012, Tensor, Tensor, dict[str, Tensor]]:
    """A small-image net in double precision, images, its logits, and the gradient of every parameter."""
    torch.manual_seed(0)
    model = AlexNet2012(num_classes=10, image_size=96, pixel_scale=1.0).double().eval()
    x = 30 * torch.randn(3, 3, 96, 96, dtype=torch.float64)
    logits = model(x)
    F.cross_entropy(logits, torch.arange(3)).backward()
    return model, x, logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_two_towers_are_grouped_convolutions(towers):
    """Outputs and gradients."""
    model, x, logits, gradients = towers
    joint = {n: torch.cat([p, model.tower2.get_parameter(n)]) for n, p in model.tower1.named_parameters()}
    joint |= {f"head.{n}": p for n, p in model.head.named_parameters()}
    leaves = {n: p.detach().requires_grad_() for n, p in joint.items()}
    found = in_one_tensor(leaves, x)
    F.cross_entropy(found, torch.arange(3)).backward()
    torch.testing.assert_close(found, logits)
    for name, p in leaves.items():
        parts = [gradients[n] for n in ([name] if "head" in name else [f"tower1.{name}", f"tower2.{name}"])]
        torch.testing.assert_close(p.grad, torch.cat(parts), msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no devices in Python",
)
def test_towers_on_two_devices(command):
    """A pass that crosses between the CPU and a second device: outputs and gradients as on one, each parameter's where
    the parameter is; the towers exchange before conv3, fc6, fc7 and the head, and nowhere else. See the file.
    """
    result = command("-m", "tests.second_device")
    assert (result.returncode, result.stdout) == (0, "crossed\n"), result.stderr


def test_place():
    """It moves the second tower alone; ``to`` brings all together again."""
    model = AlexNet2012(num_classes=10, image_size=63)
    assert model.place("cpu", "meta") is model
    for name, p in model.named_parameters():
        assert p.device.type == ("meta" if name.startswith("tower2") else "cpu"), name
    assert {p.device.type for p in model.to("meta").parameters()} == {"meta"}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_towers_on_two_gpus(towers):
    _, x, logits, gradients = towers
    model = AlexNet2012(num_classes=10, image_size=96, pixel_scale=1.0).double().eval()
    model.load_state_dict(towers[0].state_dict())
    found = model.place("cuda:0", "cuda:1")(x)
    F.cross_entropy(found, torch.arange(3, device="cuda:0")).backward()
    torch.testing.assert_close(found.cpu(), logits)
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(p.grad.cpu(), gradients[name])


def test_dropout_of_2012():
    """Of the outputs of fc6 and fc7, half of them, doubled so that their expectation is kept; none in eval mode."""
    torch.manual_seed(0)
    model = AlexNet2012(num_classes=0, image_size=63)
    x = torch.randn(2, 3, 63, 63)
    last = model.tower1.full7(torch.ones(2, 4096))
    kept = F.relu(model.tower1.fc7(torch.ones(2, 4096)))
    share = (last[kept > 0] > 0).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(last[last > 0], 2 * kept[last > 0])
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


# --- 32 px --------------------------------------------------------------------------------------------------------


def test_alexnet_cifar_sizes():
    model = on_meta("alexnet_cifar")
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "head", "pool"]
    assert sizes(model, 32, layers) == [
        (64, 32, 32), (128, 16, 16), (192, 8, 8), (128, 8, 8), (128, 8, 8), (512,), (512,), (10,), (128, 4, 4),
    ]  # fmt: skip
    assert count(model) == 1_983_434
    assert multiply_adds(model, 32) < 60


def test_cuda_convnet_sizes():
    """The layer definitions' maps; a pooling covers all of a map: 32, 16, 8 and 4 px, and 24, 12 and 6."""
    model = CudaConvNet()
    layers = ["conv1", "pool1", "conv2", "pool2", "conv3", "pool3"]
    assert sizes(model, 32, layers) == [
        (32, 32, 32), (32, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8), (64, 4, 4),
    ]  # fmt: skip
    assert counts(model) == {
        "conv1": 32 * 75 + 32, "conv2": 32 * 800 + 32, "conv3": 64 * 800 + 64, "head": 10 * 1024 + 10,
    }  # fmt: skip
    assert count(model) == 89_578
    assert multiply_adds(model, 32) == pytest.approx(12.3, abs=0.05)
    local = CudaConvNetLocal()
    layers = ["conv1", "norm1", "conv2", "pool", "local3", "local4"]
    assert sizes(local, 32, layers) == [
        (64, 24, 24), (64, 12, 12), (64, 12, 12), (64, 6, 6), (64, 6, 6), (32, 6, 6),
    ]  # fmt: skip
    assert counts(local) == {
        "conv1": 64 * 75 + 64, "conv2": 64 * 1600 + 64, "local3": 36 * (64 * 576 + 64), "local4": 36 * (32 * 576 + 32),
        "head": 10 * 1152 + 10,
    }  # fmt: skip
    assert count(local) == 2_112_970


@pytest.mark.parametrize("image_size", [8, 9, 27, 28, 30, 31, 32, 33])
def test_cuda_convnet_of_any_size(image_size):
    """The head fits what the poolings leave."""
    x = torch.randn(2, 3, image_size, image_size)
    assert CudaConvNet(image_size=image_size)(x).shape == (2, 10)
    assert CudaConvNetLocal(image_size=image_size, crop=image_size)(x).shape == (2, 10)
    assert CifarAlexNet(image_size=image_size)(x).shape == (2, 10)


@pytest.mark.parametrize(
    ("model", "deviations"),
    [
        (CudaConvNet, {"conv1": 0.0001, "conv2": 0.01, "conv3": 0.01, "head": 0.01}),
        (CudaConvNetLocal, {"conv1": 0.0001, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "head": 0.01}),
    ],
)
def test_initial_weights_of_cuda_convnet(model, deviations):
    torch.manual_seed(0)
    for name, std in deviations.items():
        layer = model().get_submodule(name)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05), name
        assert (layer.bias == 0).all(), name
    assert deviations.keys() == counts(model()).keys()


@pytest.mark.parametrize("model", [CudaConvNet, CudaConvNetLocal])
def test_pixel_scale(model):
    """A factor of the images."""
    net, x = model(), torch.randn(2, 3, 32, 32)
    plain = model(pixel_scale=1.0)
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), plain(64 * x))
    assert not torch.allclose(net(x), plain(x))


def test_same_map_norm():
    """Against the sum, position by position; squares hang over the border."""
    torch.manual_seed(0)
    u = 300 * torch.rand(2, 3, 5, 4, dtype=torch.float64)
    expected = torch.empty_like(u)
    for y in range(5):
        for x in range(4):
            total = u[:, :, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].square().sum((2, 3))
            expected[:, :, y, x] = u[:, :, y, x] / (1 + 5e-5 / 9 * total) ** 0.75
    torch.testing.assert_close(SameMapNorm()(u), expected)
    assert (expected / u).min() < 0.7  # the test would see another constant


def test_averages_are_over_what_is_inside():
    assert torch.equal(CudaConvNet().pool2(torch.ones(1, 1, 16, 16)), torch.ones(1, 1, 8, 8))


def test_locally_connected():
    """Each output against its own kernel and patch; with the same kernel everywhere it is a convolution."""
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 3, image_size=4)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, 4, 4)
    y = layer(x)
    padded = F.pad(x, (1, 1, 1, 1))
    for p in range(16):
        row, column = divmod(p, 4)
        patch = padded[:, :, row : row + 3, column : column + 3]
        kernel = layer.weight[3 * p : 3 * p + 3].view(3, 2, 3, 3)
        torch.testing.assert_close(
            y[:, :, row, column], torch.einsum("bcij,ocij->bo", patch, kernel) + layer.bias[3 * p : 3 * p + 3]
        )
    shared = nn.Conv2d(2, 3, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(shared.weight.flatten(1).repeat(16, 1))
        layer.bias.copy_(shared.bias.repeat(16))  # type: ignore[index]
    torch.testing.assert_close(layer(x), shared(x))


def test_the_crop_is_the_middle():
    """Nothing outside of it matters; of an image shifted by up to 4 px it is any of the 81 crops."""
    torch.manual_seed(0)
    model = CudaConvNetLocal()
    whole = CudaConvNetLocal(image_size=24)
    whole.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), whole(x[:, :, 4:28, 4:28]))
    shifted = F.pad(x, (4, 0, 0, 4))[:, :, 4:, :32]  # 4 px to the right, 4 px up
    torch.testing.assert_close(model(shifted), whole(x[:, :, 8:32, 0:24]))


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_from_the_loss_of_guessing(name):
    torch.manual_seed(0)
    model = zoo.create(name)
    loss = F.cross_entropy(model(torch.randn(20, 3, 32, 32)), torch.arange(20) % 10)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(10), abs=0.3)
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("alexnet", {"num_classes": 0}, (2, 4096)),
        ("alexnet", {"num_classes": 7, "in_channels": 1, "image_size": 63}, (2, 7)),
        ("alexnet_2012", {"num_classes": 0}, (2, 4096)),
        ("alexnet_2012", {"num_classes": 7, "in_channels": 1, "image_size": 63}, (2, 7)),
        ("alexnet_cifar", {"num_classes": 0, "hidden": [30, 20]}, (2, 20)),
        ("alexnet_cifar", {"in_channels": 1, "channels": [4, 5, 6, 7, 8], "batch_norm": False}, (2, 10)),
        ("cuda_convnet", {"num_classes": 0}, (2, 1024)),
        ("cuda_convnet", {"num_classes": 7, "in_channels": 1, "image_size": 28, "dropout": 0.5}, (2, 7)),
        ("cuda_convnet_11pct", {"num_classes": 0}, (2, 1152)),
        ("cuda_convnet_11pct", {"num_classes": 7, "in_channels": 1, "crop": 28, "dropout": 0.5}, (2, 7)),
    ],
)  # fmt: skip
def test_arguments(name, arguments, shape):
    size = arguments.get("image_size", 32 if name in SMALL else 224)
    x = torch.empty(2, arguments.get("in_channels", 3), size, size, device="meta")
    assert on_meta(name, **arguments)(x).shape == shape


@pytest.mark.parametrize("model", [AlexNet, AlexNet2012, CifarAlexNet, CudaConvNet, CudaConvNetLocal])
def test_dropout_is_an_argument(model):
    """Nothing else here is random: without it one input gives one output in training too."""
    image_size = 32 if model in (CifarAlexNet, CudaConvNet, CudaConvNetLocal) else 63
    x = torch.randn(2, 3, image_size, image_size)
    net = model(dropout=0.4, image_size=image_size, num_classes=3)
    assert not torch.equal(net(x), net(x))
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            assert layer.p == 0.4
            layer.p = 0.0
    assert torch.equal(net(x), net(x))


def test_what_is_not_valid_is_named():
    for name in ("alexnet", "alexnet_2012"):
        with pytest.raises(ZooError, match=r"image_size=62 is too small; valid: 63 or more; .*model=alexnet_cifar"):
            zoo.create(name, image_size=62)
    with pytest.raises(ZooError, match=r"channels=\[8, 8\], hidden=\[512, 512\]: .* five numbers and two"):
        zoo.create("alexnet_cifar", channels=[8, 8])
    with pytest.raises(ZooError, match=r"hidden=\[9\]"):
        zoo.create("alexnet_cifar", hidden=[9])
    with pytest.raises(ZooError, match="image_size=7 is too small"):
        zoo.create("cuda_convnet", image_size=7)
    with pytest.raises(ZooError, match="crop=33 is not valid: give 4 to image_size=32"):
        zoo.create("cuda_convnet_11pct", crop=33)
