"""Every model: builds, shapes, gradients, published parameter counts, and the lecture's facts."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.contracts import Aligned, Autoencoder, Denoising, Generator, Pair, WithAux
from zoo.errors import ZooError
from zoo.layers import ACTIVATIONS, initialise, make_activation
from zoo.models.lenet import C3_SOURCES, RBF, LeNet5, LeNet5_1998, PartialConv2d, Subsample, digit_codes
from zoo.models.mlp import MLP
from zoo.pretrained.features import features
from zoo.pretrained.loading import example
from zoo.tasks.losses import MAPLoss

# The number of parameters; of a network for ImageNet also the side in pixels of the images that the tests give it.
PARAMETERS = {
    "alexnet": (61100840, 64), "alexnet_2012": (60965224, 224), "alexnet_cifar": 1983434, "cuda_convnet": 89578,
    "cuda_convnet_11pct": 2112970, "linear": 7850, "mlp": 669706, "lenet5": 61706, "lenet5_1998": 60000,
    "resnet20": 269722, "resnet32": 464154, "resnet44": 658586, "resnet56": 853018, "resnet110": 1727962,
    "plain20": 269722, "plain56": 853018, "resnet18": (11689512, 64), "resnet34": (21797672, 64),
    "resnet50": (25557032, 64), "resnet101": (44549160, 64), "resnet152": (60192808, 64),
    "googlenet": (7005832 + 6379984, 64), "googlenet_cifar": 1614886, "speednet": 1971352,
    "conv_lstm": 3771946, "rnn": 164929, "gru": 428097, "lstm": 559681, "scan_lstm": 82186,
    "seq2seq": 2581569,
    "autoencoder": 1083696, "conv_autoencoder": 270561, "ppca": 25873, "vae": 1361884, "made": 12552784,
    "pixelcnn": 303873, "gan": 2946577, "dcgan": 898370,
    "ladder": 2 * 1536500 + 2260 + 10 + 10 * 3044, "efficientnet_lite0": (4652008, 64),
}  # fmt: skip
COUNTS = {name: row[0] if isinstance(row, tuple) else row for name, row in PARAMETERS.items()}
IMAGENET = {name: row[1] for name, row in PARAMETERS.items() if isinstance(row, tuple)}  # networks of 1,000 classes


def model_and_examples(name: str, n: int) -> tuple[nn.Module, torch.Tensor]:
    """An untrained model and noise, or tokens, that it takes."""
    if name in IMAGENET:
        return zoo.create(name), torch.randn(n, 3, IMAGENET[name], IMAGENET[name])
    if name == "googlenet_cifar":
        return zoo.create(name, num_classes=10), torch.randn(n, 3, 32, 32)
    model, x = example(name)
    assert x is not None
    return model, torch.randn(n, *x.shape[1:]) if x.is_floating_point() else torch.randint(65, (n, *x.shape[1:]))


def test_every_config_has_a_known_size():
    of_stories = {"glac"}  # no input of images or tokens: tests/test_stories.py
    assert set(zoo.list_models()) == set(PARAMETERS) | of_stories


@pytest.mark.parametrize("name", PARAMETERS)
def test_model(name):
    """Published parameter count, shape, finite output, a gradient for every trained parameter; what a model is, its
    methods say.
    """
    torch.manual_seed(0)
    model, x = model_and_examples(name, 8)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    of_images = isinstance(model, (Autoencoder, Generator))
    assert sum(p.numel() for p in (model.parameters() if of_images else trained.values())) == COUNTS[name]
    if isinstance(model, Pair):
        assert model(x).shape == (8,)
        return
    loss = loss_of_images(model, x) if of_images else loss_of_classes(name, model, x)
    loss.backward()
    for parameter_name, p in model.named_parameters() if of_images else trained.items():
        assert p.grad is not None, parameter_name
        assert p.grad.abs().sum() > 0, parameter_name


def loss_of_images(model, x):
    """Of images, or of their log-odds."""
    output = model.train()(x)
    assert output.shape == x.shape
    assert output.isfinite().all()
    return F.mse_loss(output, torch.randn_like(x))


def loss_of_classes(name, model, x):
    """With that of auxiliary heads and of a ladder's decoder, which are for training alone; it begins near
    log(classes).
    """
    classes = 1000 if name in IMAGENET else 10 if x.is_floating_point() else 65
    logits = model.train()(x)
    steps = (16,) if isinstance(model, Aligned) else () if x.is_floating_point() else (x.shape[-1],)
    assert logits.shape == (8, *steps, classes)
    assert logits.isfinite().all()
    extra = 0.0
    if isinstance(model, Denoising):
        for level in model.decoder:  # they begin with a guess of 0, whatever comes from above
            torch.nn.init.normal_(level.a)
        logits, extra = model.corrupted_and_cost(torch.rand(8, 1, 28, 28), torch.rand(8, 1, 28, 28))
    outputs = model.forward_with_aux(x) if isinstance(model, WithAux) else [logits]
    losses = [F.cross_entropy(z.flatten(0, -2), torch.arange(z[..., 0].numel()) % classes) for z in outputs]
    # RBF outputs are no logits; published initial values are larger; and a ladder's are normalised
    if name not in ("lenet5_1998", "alexnet_2012") and not isinstance(model, Denoising):
        assert losses[0].item() == pytest.approx(math.log(classes), abs=0.7)
    return sum(losses) + extra


@pytest.mark.parametrize("name", PARAMETERS)
def test_output_does_not_depend_on_the_batch(name):
    model, x = model_and_examples(name, 3)
    with torch.no_grad():
        together, alone = model.eval()(x)[1:2], model(x[1:2])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * max(1.0, together.abs().max().item()))


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("lenet5", {"num_classes": 7, "in_channels": 3, "image_size": 32}, (2, 7)),
        ("lenet5", {"num_classes": 0}, (2, 84)),
        ("ladder", {"num_classes": 0, "hidden": [9, 7], "costs": [1.0] * 4}, (2, 7)),
        ("lenet5", {"channels": [8, 20], "hidden": [30], "batch_norm": True, "pool": "avg"}, (2, 10)),
        ("lenet5_1998", {"num_classes": 4, "in_channels": 3}, (2, 4)),
        ("lenet5_1998", {"num_classes": 0}, (2, 84)),
        ("mlp", {"hidden": [8, 6, 4], "num_classes": 3, "in_channels": 3, "image_size": 32}, (2, 3)),
        ("linear", {"num_classes": 0}, (2, 784)),
    ],
)  # fmt: skip
def test_arguments(name, arguments, shape):
    x = torch.randn(2, arguments.get("in_channels", 1), *[32 if arguments.get("in_channels") == 3 else 28] * 2)
    assert zoo.create(name, **arguments)(x).shape == shape


def test_create_errors():
    with pytest.raises(
        ZooError, match=r"'lenet6'; did you mean lenet5\?.*lenet5, lenet5_1998, linear, lstm, made, mlp, pixelcnn"
    ):
        zoo.create("lenet6")
    with pytest.raises(ZooError, match=r"model\.num_clases: .* did you mean model\.num_classes\?"):
        zoo.create("lenet5", num_clases=5)
    with pytest.raises(ZooError, match=r"model\.dropout=high is not valid: a number is expected"):
        zoo.create("lenet5", dropout="high")
    with pytest.raises(ZooError, match="activation=relou is unknown; valid: sigmoid"):
        zoo.create("mlp", activation="relou")
    with pytest.raises(ZooError, match="pool=median is unknown; valid: max, avg, min, l2"):
        zoo.create("lenet5", pool="median")


def test_features():
    """Features of any layer by name, as timm and torchvision give them."""
    x = torch.randn(2, 1, 28, 28)
    extractor = zoo.create("lenet5", features_only="all")
    assert extractor.layers == ["conv1", "conv2", "fc.fc1", "fc.fc2"]
    assert [tuple(f.shape[1:]) for f in extractor(x)] == [(6, 28, 28), (16, 10, 10), (120,), (84,)]
    named = zoo.create("lenet5", features_only=["pool1", "head"])
    assert [tuple(f.shape[1:]) for f in named(x)] == [(6, 14, 14), (10,)]
    model = zoo.create("lenet5")
    torch.testing.assert_close(features(model, x, ["head"])["head"], model(x))
    with pytest.raises(ZooError, match="no layer is named 'conv9'; valid: conv1"):
        features(model, x, ["conv9"])


@pytest.mark.parametrize(
    ("name", "arguments", "layers", "channels", "reduction"),
    [
        ("lenet5", {}, ["act1", "pool1", "act2", "pool2"], [6, 6, 16, 16], [1, 2, 2.8, 5.6]),
        ("resnet20", {}, ["layer1", "layer2", "layer3"], [16, 32, 64], [1, 2, 4]),
        ("resnet20", {"preact": True}, ["layer1", "layer2", "norm"], [16, 32, 64], [1, 2, 4]),
        (
            "resnet18",
            {"in_channels": 1},
            ["bn1", "layer1", "layer2", "layer3", "layer4"],
            [64, 64, 128, 256, 512],
            [2, 4, 8, 16, 32],
        ),
    ],
)
def test_a_feature_map_for_each_stage(name, arguments, layers, channels, reduction):
    """As timm gives them: from large to small, one per resolution, with channels and reductions to build on."""
    model: Any = zoo.create(name, features_only=True, **arguments)
    assert model.training
    assert model.feature_info.module_name() == layers
    assert model.feature_info.channels() == channels
    assert model.feature_info.reduction() == reduction
    side = {"lenet5": 28, "resnet20": 32, "resnet18": 64}[name]
    x = torch.randn(2, arguments.get("in_channels", 1 if name == "lenet5" else 3), side, side)
    maps = model.eval()(x)
    assert [f.shape[1] for f in maps] == channels
    assert [round(side / f.shape[2], 2) for f in maps] == reduction
    some: Any = zoo.create(name, features_only=True, out_indices=(1, -1), **arguments).eval()
    some.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(some(x), (maps[1], maps[-1]), strict=True))
    assert some.feature_info.channels() == [channels[1], channels[-1]]


def test_features_change_neither_weights_nor_random_numbers():
    """The example input that shows the stages leaves norms' statistics and the generator as they are."""
    torch.manual_seed(0)
    plain = zoo.create("resnet20")
    after = torch.rand(1)
    torch.manual_seed(0)
    extractor: Any = zoo.create("resnet20", features_only=True)
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), extractor.parameters(), strict=True))


def test_stages_of_models_without_maps():
    """All layers instead; and wrong numbers of stages are told."""
    model: Any = zoo.create("mlp", features_only=True)
    assert model.feature_info.reduction() == [None, None]
    assert model.feature_info.channels() == [512, 512]
    with pytest.raises(ZooError, match=r"out_indices=\[4\] is not valid: give numbers of stages: 0 act1, 1 pool1"):
        zoo.create("lenet5", features_only=True, out_indices=[4])
    with pytest.raises(ZooError, match="out_indices counts the stages of features_only=True"):
        zoo.create("lenet5", features_only=["pool1"], out_indices=[0])
    with pytest.raises(ZooError, match="out_indices counts the stages of features_only=True"):
        zoo.create("lenet5", out_indices=[0])


# --- lecture 16.1 -------------------------------------------------------------------------------------------------


def test_mlp_is_the_lectures_formula():
    """h(x) = g2(W2 g1(W1 x)) with the same weights, biases as weights of a constant 1."""
    model = MLP(num_classes=3, image_size=2, hidden=[5], activation="sigmoid")
    x = torch.randn(7, 1, 2, 2)
    w1, b1, w2, b2 = (p.detach() for p in model.parameters())
    g1 = 1 / (1 + torch.exp(-(x.flatten(1) @ w1.T + b1)))
    torch.testing.assert_close(model(x), g1 @ w2.T + b2)


FORMULAS = {
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2),
    "relu": (lambda x: max(0.0, x), lambda x: float(x > 0)),
    "softplus": (lambda x: math.log(1 + math.exp(x)), lambda x: 1 / (1 + math.exp(-x))),
    "tanh": (
        lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1),
        lambda x: 1 - ((math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)) ** 2,
    ),
    "scaled_tanh": (
        lambda x: 1.7159 * math.tanh(2 / 3 * x),
        lambda x: 1.7159 * 2 / 3 * (1 - math.tanh(2 / 3 * x) ** 2),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_the_slides(name):
    """Value and derivative against the formulas; monotone, g' >= 0."""
    value, derivative = FORMULAS[name]
    x = torch.linspace(-5, 5, 200, dtype=torch.float64, requires_grad=True)
    y = make_activation(name)(x)
    y.sum().backward()
    torch.testing.assert_close(y, torch.tensor([value(v) for v in x.tolist()], dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.tensor([derivative(v) for v in x.tolist()], dtype=torch.float64))
    assert (x.grad >= 0).all()
    assert (y.diff() >= 0).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_acts_element_by_element(name):
    x = torch.randn(3, 4)
    torch.testing.assert_close(make_activation(name)(x)[1:2, 2:3], make_activation(name)(x[1:2, 2:3]))


def test_back_propagation_by_hand():
    """The slide's net of two inputs, two hidden units and one output: hand-derived gradients equal autograd's."""
    torch.manual_seed(0)
    model = MLP(num_classes=1, image_size=2, hidden=[2], activation="sigmoid").double()
    model.layers.fc1 = nn.Linear(2, 2).double()  # two inputs
    x, y = torch.randn(6, 2).double(), torch.randn(6).double()
    g = torch.sigmoid
    hidden, head = model.layers.fc1, model.head
    total = {"w35": 0.0, "w13": 0.0}
    for xi, yi in zip(x, y, strict=True):
        in_hidden = hidden.weight @ xi + hidden.bias
        a = g(in_hidden)
        in5 = head.weight[0] @ a + head.bias[0]
        delta5 = 2 * (g(in5) - yi) * g(in5) * (1 - g(in5))
        delta3 = delta5 * head.weight[0, 0] * a[0] * (1 - a[0])
        total["w35"] += (delta5 * a[0]).item()
        total["w13"] += (delta3 * xi[0]).item()
    loss = (y - g(model(x.view(6, 1, 1, 2)))[:, 0]).square().sum()  # the gradient over examples is the sum
    loss.backward()
    assert head.weight.grad[0, 0].item() == pytest.approx(total["w35"], abs=1e-6)
    assert hidden.weight.grad[0, 0].item() == pytest.approx(total["w13"], abs=1e-6)


DEPTH, WIDTH = 16, 256  # the input has as many numbers, so that all layers but the head are of one size


def first_to_last(seed: int, **arguments) -> float:
    """The gradient of the first of 16 layers over that of the last, in norm, for one image of N(0, 1)."""
    torch.manual_seed(seed)
    model = MLP(image_size=16, hidden=[WIDTH] * DEPTH, **arguments)
    loss = F.cross_entropy(model(torch.randn(2, 1, 16, 16)), torch.tensor([3, 3]))
    loss.backward()
    first, last = model.layers.fc1.weight.grad, model.layers.get_submodule(f"fc{DEPTH}").weight.grad
    return (first.norm() / last.norm()).item()


def mean_ratio(**arguments) -> float:
    """The geometric mean over seeds; one of them is off by a factor of about 1.5."""
    return math.exp(sum(math.log(first_to_last(seed, **arguments)) for seed in range(12)) / 12)


def test_vanishing_gradient():
    """A deep sigmoid net starves its first layer. With He's weights a ReLU net does not: of W ~ N(0, 2/n) each layer
    keeps E|δ|² on the way back, n · 2/n · 1/2 = 1, and E|h|² on the way up, so that the gradients |δ||h| are equal
    (He et al. 2015, equations 10 and 14). Torch's W, of variance 1/(3n), leaves 1/6 of |δ|² a layer, and biases of
    that variance leave |h|² = 1/5, as h²/6 + 1/6 is h² there, of the input's n: 6^(−15/2) √(n/0.2) in all.
    """
    assert mean_ratio(activation="relu", init="he") == pytest.approx(1, rel=0.3)
    assert mean_ratio(activation="leaky_relu", init="he") == pytest.approx(1, rel=0.3)
    torchs = 6 ** (-(DEPTH - 1) / 2) * (WIDTH / 0.2) ** 0.5  # 5e-5
    assert mean_ratio(activation="relu", init="torch") == pytest.approx(torchs, rel=0.5)
    starved = mean_ratio(activation="sigmoid")
    assert starved < 1e-9
    assert mean_ratio(activation="sigmoid", batch_norm=True) > 1e3 * starved


@pytest.mark.parametrize("slope", ["relu", "leaky_relu"])
def test_he_initialisation_keeps_the_mean_square(slope):
    """Of what comes after the activation, away from borders; for transposed convolutions too."""
    torch.manual_seed(0)
    for layer, x in (
        (nn.Linear(300, 500), torch.randn(50, 300)),
        (nn.Conv2d(64, 100, 5), torch.randn(4, 64, 16, 16)),
        (nn.ConvTranspose2d(64, 100, 4, stride=2), torch.randn(4, 64, 16, 16)),
    ):
        initialise([layer], "he", slope)
        y = make_activation(slope)(layer(x))
        inside = y if y.ndim == 2 else y[..., 4:-4, 4:-4]
        assert inside.square().mean().item() == pytest.approx(1, rel=0.05)
    before = layer.weight.clone()
    initialise([layer], "torch", slope)
    initialise([layer], "he", "tanh")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    ("name", "arguments", "last"),
    [
        ("mlp", {}, {"head"}),
        ("lenet5", {}, {"head"}),
        ("autoencoder", {}, {"encoder.fc3", "decoder.fc1"}),
        ("conv_autoencoder", {}, {"encoder.code", "decoder.conv1"}),
        ("vae", {"activation": "relu"}, {"encoder.code", "decoder.fc3"}),
        ("vae", {"activation": "relu", "channels": [8, 16]}, {"encoder.code", "decoder.conv1"}),
    ],
)
def test_which_layers_he_initialisation_is_for(name, arguments, last):
    """Those that a ReLU follows have biases of 0; codes and outputs keep torch's, and so do all with init=torch."""
    for init, torchs in (("he", last), ("torch", None)):
        model = zoo.create(name, init=init, **arguments)
        layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))}
        assert {n for n, m in layers.items() if m.bias.any()} == (torchs or set(layers))
    with pytest.raises(ZooError, match=r"model\.init=.*lecun"):
        zoo.create(name, init="lecun")


def test_dropout_as_published():
    """Expectation kept, eval deterministic, backward through the same mask."""
    torch.manual_seed(0)
    drop = MLP(hidden=[4], dropout=0.5).layers.drop1
    x = torch.ones(20000, requires_grad=True)
    y = drop(x)
    y.sum().backward()
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(x.grad, y.detach())
    model = MLP(hidden=[16], dropout=0.5, input_dropout=0.5).eval()
    image = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(image), model(image))


# --- LeNet-5 as published -----------------------------------------------------------------------------------------


def test_lenet5_1998_layer_sizes():
    """The paper's own counts, section II.B."""
    model = LeNet5_1998()
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "act": 0, "head": 0}
    sizes = [
        tuple(f.shape[1:])
        for f in features(model, torch.zeros(1, 1, 32, 32), ["c1", "s2", "c3", "s4", "c5", "f6"]).values()
    ]
    assert sizes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,)]


def test_c3_connections():
    """Table I: 60 kernels; an output map depends on its sources and on nothing else."""
    assert [len(maps) for maps in C3_SOURCES] == [3] * 6 + [4] * 9 + [6]
    assert [sum(i in maps for maps in C3_SOURCES) for i in range(6)] == [10] * 6
    layer = PartialConv2d(6, C3_SOURCES)
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    for out, maps in enumerate(C3_SOURCES):
        (gradient,) = torch.autograd.grad(layer(x)[0, out].sum(), x, retain_graph=True)
        assert [i for i in range(6) if gradient[0, i].abs().sum() > 0] == sorted(maps)


def test_subsampling_sums_then_scales():
    layer = Subsample(1)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(0.5)
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(x).item() == 2 * 10 + 0.5


def test_rbf_and_its_loss():
    """Equation 7, and equation 9 by its formula."""
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert (torch.cdist(codes, codes) + 100 * torch.eye(10)).min() > 0  # no two alike
    x = torch.randn(5, 84)
    output = RBF(codes)(x)
    y = torch.stack([(x - code).square().sum(1) for code in codes], dim=1)
    torch.testing.assert_close(output, -y)
    labels, j = torch.tensor([0, 3, 3, 9, 1]), 2.5
    right = y[torch.arange(5), labels]
    expected = (right + torch.log(math.exp(-j) + torch.exp(-y.double()).sum(1))).mean()
    torch.testing.assert_close(MAPLoss(j)(output, labels).double(), expected)


def test_lenet5_1998_pads_with_the_background():
    """28 px images become 32 px as the paper's: the border of a digit is background."""
    model = LeNet5_1998().eval()
    digit = torch.full((1, 1, 28, 28), -0.1)
    digit[..., 8:20, 8:20] = 1.175
    padded = F.pad(digit, (2, 2, 2, 2), value=-0.1)
    torch.testing.assert_close(model(digit), model(padded))


def test_lenet5_walk_through():
    """28 px padded to 32, 32 px as it is: the same 5×5 maps before the fully connected layers."""
    for size in (28, 32):
        model = LeNet5(image_size=size)
        assert features(model, torch.zeros(1, 1, size, size), ["pool2"])["pool2"].shape == (1, 16, 5, 5)
        assert sum(p.numel() for p in model.parameters()) == 61706
