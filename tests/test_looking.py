"""zoo explain: attributions against exact facts and against captum, images for units, and the command."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo import cli
from zoo.data import sources
from zoo.errors import ZooError
from zoo.use.explanation import explain, explain_units
from zoo.use.saliency import (
    activations,
    grad_cam,
    gradient,
    integrated_gradients,
    last_map,
    maps,
    maximise,
    saliency,
)

from .conftest import REPO

PAGE = (REPO / "docs" / "looking_inside.md").read_text(encoding="utf-8")
DOCUMENTED = [line for line in re.findall("^zoo explain .*", PAGE, flags=re.M) if "logs/" not in line]


@pytest.fixture(scope="module")
def seven() -> torch.Tensor:
    """The first test image of MNIST, uint8 (1, 28, 28, 1)."""
    return sources.load("mnist")["test_images"][:1]


@pytest.fixture(scope="module")
def lenet():
    return zoo.load("lenet5_mnist")


@pytest.fixture(scope="module")
def resnet():
    return zoo.load("resnet20_cifar10")


@pytest.fixture
def files(tmp_path, seven, monkeypatch) -> Path:
    """The working directory, with seven.png in it."""
    Image.fromarray(seven[0, :, :, 0].numpy()).save(tmp_path / "seven.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd):
    """The command in this process: arguments -> (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (int(stop.value.code or 0), *capfd.readouterr())

    return call


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_linear_model_has_its_weights_as_saliency():
    """And its integrated gradients are w · (x − baseline), however many steps there are."""
    torch.manual_seed(0)
    model = zoo.create("linear", in_channels=3, image_size=4).eval()
    x, black = torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)
    w = model.head.weight[7].view(3, 4, 4)
    torch.testing.assert_close(saliency(model, x, 7), w.abs().amax(0).expand(2, 4, 4))
    torch.testing.assert_close(integrated_gradients(model, x, 7, black, steps=3), w * (x - black))


def test_integrated_gradients_sum_to_the_difference_of_the_logits(lenet, seven):
    """Completeness: proposition 1 of Sundararajan et al. 2017."""
    x, black = lenet.preprocess(seven), lenet.preprocess(torch.zeros_like(seven))
    with torch.no_grad():
        difference = (lenet(x) - lenet(black))[0, 7]
    assert difference > 5
    torch.testing.assert_close(integrated_gradients(lenet, x, 7, black).sum(), difference, rtol=0.02, atol=0)


def test_grad_cam_is_cam_where_a_mean_and_a_linear_layer_follow(resnet):
    """Selvaraju et al. 2017, section 3.1: in such a network Grad-CAM is the CAM of Zhou et al. 2016."""
    x = resnet.preprocess.random_input(3)
    with torch.no_grad():
        last = maps(resnet, x)["layer3"]  # (3, 64, 8, 8)
    expected = (resnet.head.weight[4].view(-1, 1, 1) * last).sum(1).relu() / 64
    assert last_map(resnet, x) == "layer3"
    torch.testing.assert_close(grad_cam(resnet, x, 4, "layer3"), expected.detach())


@pytest.mark.parametrize(
    ("name", "layer"),
    {
        "lenet5_mnist": "act2",
        "lenet5_1998_mnist": "s4",
        "alexnet_cifar10": "conv5",
        "cuda_convnet_cifar10": "conv3",
        "googlenet_cifar10": "inception5b",
        "speednet_cifar10": "block3",
        "mlp_mnist": None,
        "lstm_mnist_rows": None,
    }.items(),
)
def test_the_layer_of_grad_cam(name, layer):
    model = zoo.load(name)
    assert last_map(model, model.preprocess.random_input(1)) == layer


def test_explaining_changes_no_parameter(lenet, seven):
    before = {name: p.clone() for name, p in lenet.state_dict().items()}
    x = lenet.preprocess(seven)
    grad_cam(lenet, x, 7, "act2")
    maximise(lenet, "head", [7], torch.tensor([-0.4]), torch.tensor([2.8]), 28, steps=2)
    assert all(torch.equal(p, before[name]) for name, p in lenet.state_dict().items())
    assert all(p.grad is None for p in lenet.parameters())
    assert x.grad is None
    assert not any(module._forward_hooks for module in lenet.modules())


# --- activation maximisation ------------------------------------------------------------------------------------------


def test_the_best_image_for_a_linear_unit_is_its_weights():
    """argmax w·x − λ|x|² = w / 2λ, cut off at the limits of the pixels."""
    torch.manual_seed(0)
    model = zoo.create("linear", in_channels=3, image_size=4).eval()
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
    low, high = torch.tensor([-0.5, -1.0, -9.0]), torch.tensor([9.0, 1.0, 0.25])
    x = maximise(model, "head", [3, 8], low, high, 4, steps=400, decay=0.05, jitter=0)
    expected = (model.head.weight[[3, 8]].view(2, 3, 4, 4) / 0.1).clamp(low.view(3, 1, 1), high.view(3, 1, 1))
    torch.testing.assert_close(x, expected.detach(), atol=1e-2, rtol=0)


def test_images_for_classes_excite_them_more_than_real_ones(lenet):
    low, high = ((level - torch.tensor([0.1307])) / 0.3081 for level in (0.0, 1.0))
    x = maximise(lenet, "head", range(10), low, high, 28)
    again = maximise(lenet, "head", range(10), low, high, 28, steps=3)
    images = lenet.preprocess(sources.load("mnist")["test_images"][:1000])
    with torch.no_grad():
        reached, real = activations(lenet, x, "head").diag(), activations(lenet, images, "head").amax(0)
    assert (reached > real).all()
    assert x.min() >= low
    assert x.max() <= high
    assert torch.equal(again, maximise(lenet, "head", range(10), low, high, 28, steps=3))
    assert not torch.equal(again, maximise(lenet, "head", range(10), low, high, 28, steps=3, seed=1))


# --- captum -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # captum says what it sets
@pytest.mark.parametrize(("name", "layer"), [("lenet5_mnist", "act2"), ("resnet20_cifar10", "layer2")])
def test_equal_to_captum(name, layer):
    """Captum (Kokhlikyan et al. 2020) gives the same numbers; in 64 bits, as rounding may switch a ReLU on or off."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    model = zoo.load(name).double()
    x = model.preprocess.random_input(2).double()
    baseline = torch.full_like(x[:1], -0.4)
    module = model.get_submodule(layer)

    theirs = attr.Saliency(model).attribute(x, target=3)
    torch.testing.assert_close(saliency(model, x, 3), theirs.amax(1))
    theirs = attr.Saliency(model).attribute(x, target=3, abs=False)
    torch.testing.assert_close(gradient(model, x, 3), theirs)

    integrated = attr.IntegratedGradients(model)
    theirs = integrated.attribute(x, baseline, target=3, n_steps=20, method="riemann_middle")
    torch.testing.assert_close(integrated_gradients(model, x, 3, baseline, 20), theirs)

    theirs = attr.LayerGradCam(model, module).attribute(x, target=3, relu_attributions=True)
    assert theirs.max() > 0
    torch.testing.assert_close(grad_cam(model, x, 3, layer), theirs[:, 0].detach())

    x.requires_grad_()  # the slope that maximise climbs: of a channel's mean
    ours = torch.autograd.grad(activations(model, x, layer)[:, 5].sum(), x)[0]
    theirs = attr.NeuronGradient(model, module).attribute(x, lambda out: out[:, 5].mean((1, 2)))
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs)


# --- the command ------------------------------------------------------------------------------------------------------


def test_explain_an_image(run, files):
    code, out, err = run("explain", "lenet5_mnist", "seven.png", "--out", "new/seven.png")
    assert (code, err) == (0, "")
    assert out.startswith("new/seven.png: 7 ")
    assert "Grad-CAM of act2" in out
    with Image.open("new/seven.png") as picture:
        assert picture.width > 4 * picture.height


def test_a_class_and_a_layer_are_chosen(files, lenet, seven):
    """The picture of another class is another picture, and its probability is that class's."""
    first = explain(lenet, Path("seven.png"), Path("a.png"))
    other = explain(lenet, Path("seven.png"), Path("b.png"), 2, "pool1")
    with torch.no_grad():
        p = lenet(lenet.preprocess(seven)).softmax(1)[0].tolist()
    assert first == (7, pytest.approx(p[7]), "act2")
    assert other == (2, pytest.approx(p[2]), "pool1")
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()


def test_explain_units(run, files):
    code, out, err = run("explain", "lenet5_mnist", "--layer=conv2", "--unit=4", "--unit=13", "--steps=2")
    assert (code, out, err) == (0, "explanation.png: conv2, units 4, 13, seed 0\n", "")
    code, out, _ = run("explain", "lstm_mnist_rows", "--unit=9", "--steps=1")
    assert (code, out) == (0, "explanation.png: net.head, units 9, seed 0\n")


def test_without_grad_cam_one_line_says_so(run, files):
    code, out, err = run("explain", "mlp_mnist", "seven.png", "--class=9")
    assert code == 0
    assert out.startswith("explanation.png: 9 ")
    assert err == "note: there is no Grad-CAM, because no layer of mlp_mnist has a map of the image\n"


def test_a_unit_without_a_gradient_is_named(files, lenet, capfd):
    with torch.no_grad():
        silent = zoo.create("mlp", hidden=[4]).eval()
        silent.layers.fc1.weight[2], silent.layers.fc1.bias[2] = 0, -1
    silent.preprocess, silent.card, silent.classes = lenet.preprocess, lenet.card, lenet.classes
    units, quiet = explain_units(silent, "layers.act1", None, Path("u.png"), steps=1)
    assert units == [0, 1, 2, 3]
    assert 2 in quiet


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet5_mnist"], "give an image to explain, or --layer"),
        (["lenet5_mnist", "none.png"], "none.png: no such file"),
        (["lenet5_mnist", "seven.png", "--unit=3"], "--unit is for units, which need no image"),
        (["lenet5_mnist", "--layer=conv1", "--class=3"], "--class needs an image"),
        (["lenet5_mnist", "seven.png", "--class=eleven"], "no class of lenet5_mnist is called that; it has 0, 1, 2"),
        (["lenet5_mnist", "seven.png", "--layer=fc"], "valid: conv1, act1, pool1, conv2, act2, pool2"),
        (["lenet5_mnist", "seven.png", "--layer=conv9"], "no layer is named 'conv9'; valid: conv1"),
        (["mlp_mnist", "seven.png", "--layer=head"], "valid: none, as this model has no such layer"),
        (["lenet5_mnist", "--layer=conv1", "--unit=6"], "conv1 has no unit 6; valid: 0 to 5"),
        (["lenet5_mnist", "--unit=-1"], "head has no unit -1; valid: 0 to 9"),
        (["lenet5_mnist", "seven.png", "--out=a.txt"], "a.txt cannot be written"),
        (["vae_mnist", "seven.png"], "vae_mnist is no classifier, so there is no class to explain; --layer and --unit"),
        (["gan_mnist", "seven.png"], "gan_mnist is no classifier"),
        (["lstm_shakespeare", "--unit=3"], "lstm_shakespeare does not read images"),
        (["lstm_mnist_rows", "--layer=net.layers.0"], "neither a map of the image nor a row of units"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, files, arguments, message):
    code, out, err = run("explain", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(files.glob("explanation*"))


@pytest.mark.parametrize("line", DOCUMENTED)
def test_the_documented_commands(run, files, line):
    Image.new("RGB", (40, 30), "orange").save("cat.png")
    Path("seven.png").rename("digit.png")
    arguments = shlex.split(line, comments=True)[1:]
    code, out, _ = run(*arguments, *([] if "cat.png" in line or "digit.png" in line else ["--steps=1"]))
    assert code == 0
    assert out.startswith("explanation.png: ")


def test_a_formula_in_a_foreign_class_name_is_text(files, lenet):
    """Neither $ … $ nor a control character nor a letter that the font lacks stops the picture."""
    odd = nn.Sequential(lenet)
    odd.preprocess, odd.card, odd.classes = lenet.preprocess, lenet.card, [*"0123456", "$\\frac{$ \x1b 숫자", "8", "9"]
    assert explain(odd, Path("seven.png"), Path("odd.png")).number == 7
    with pytest.raises(ZooError, match="65 units do not fit"):
        explain_units(lenet, "fc.fc1", range(65), Path("many.png"))
