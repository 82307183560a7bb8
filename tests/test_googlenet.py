"""GoogLeNet: table 1 of its paper, the auxiliary heads, and parity with torchvision's."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.models.googlenet import GoogLeNet
from zoo.pretrained.features import features

TABLE = {  # table 1: output size, and millions of multiply-adds; its 54 for 5a do not fit the sizes in the same row
    "conv1": ((64, 112, 112), None), "maxpool1": ((64, 56, 56), None), "conv3": ((192, 56, 56), None),
    "maxpool2": ((192, 28, 28), None), "inception3a": ((256, 28, 28), 128), "inception3b": ((480, 28, 28), 304),
    "maxpool3": ((480, 14, 14), None), "inception4a": ((512, 14, 14), 73), "inception4b": ((512, 14, 14), 88),
    "inception4c": ((512, 14, 14), 100), "inception4d": ((528, 14, 14), 119), "inception4e": ((832, 14, 14), 170),
    "maxpool4": ((832, 7, 7), None), "inception5a": ((832, 7, 7), None), "inception5b": ((1024, 7, 7), 71),
    "head": ((1000,), 1),
}  # fmt: skip


def count(model: nn.Module, without: tuple[str, ...] = ()) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(without))


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """As in the paper: biases and local response normalisation."""
    torch.manual_seed(0)
    return zoo.create("googlenet", batch_norm=False).eval()


def test_table_1(published):
    found = features(published, torch.randn(1, 3, 224, 224), list(TABLE))
    for name, (size, multiply_adds) in TABLE.items():
        assert tuple(found[name].shape[1:]) == size, name
        if multiply_adds:  # each weight is used once a pixel
            weights = sum(p.numel() for p in published.get_submodule(name).parameters() if p.ndim > 1)
            assert weights * math.prod(size[1:]) / 1e6 == pytest.approx(multiply_adds, abs=1), name


def test_parameters_of_table_1(published):
    """In units of 1024; the paper's 463 for 4c does not fit the sizes in its row, which its multiply-adds do."""
    table = {"3a": 159, "3b": 380, "4a": 364, "4b": 437, "4d": 580, "4e": 840, "5a": 1072, "5b": 1388}
    for name, parameters in table.items():
        found = count(published.get_submodule(f"inception{name}")) / 1024
        assert found == pytest.approx(parameters, rel=0.05), name


@pytest.mark.parametrize(
    ("arguments", "without_aux", "all_of_them"),
    [({}, 7005832, 13385816), ({"batch_norm": False}, 6998552, 13378280), ({"kernel5": 3}, 6624904, 13004888)],
)
def test_parameters(arguments, without_aux, all_of_them):
    """6,624,904 is what torchvision publishes for its own, which has 3×3 for 5×5."""
    with torch.device("meta"):
        model = zoo.create("googlenet", **arguments)
    assert count(model, ("aux",)) == without_aux
    assert count(model) == all_of_them


def torchvisions() -> tuple[nn.Module, GoogLeNet]:
    """torchvision's with random weights and statistics, and ours with the same."""
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(weights=None, num_classes=10, aux_logits=True, init_weights=False)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 1e-3, 1)  # small, so that eps counts
    ours = GoogLeNet(num_classes=10, kernel5=3, pool4=2)
    state = theirs.state_dict()
    for before, after in GoogLeNet.torchvision_names.items():
        for end in ("weight", "bias"):
            state[f"{after}.{end}"] = state.pop(f"{before}.{end}")
    ours.load_state_dict(state)
    return theirs, ours


@pytest.mark.parametrize("size", [224, 97, 32])
def test_parity(size):
    """Also where the sizes between the poolings are odd."""
    theirs, ours = torchvisions()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert expected.std() > 1e-2
        torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-3, atol=1e-4)


def test_parity_of_the_auxiliary_heads():
    """At 128 px their maps are 8×8, which both pool adaptively; torchvision gives their outputs in training alone."""
    theirs, ours = torchvisions()
    for model in (theirs, ours):
        for module in model.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    x = torch.randn(4, 3, 128, 128)
    expected = theirs(x)
    logits, aux1, aux2 = ours.forward_with_aux(x)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(aux1, expected.aux_logits1, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(aux2, expected.aux_logits2, rtol=1e-3, atol=1e-3)


def test_auxiliary_heads_are_section_5s(published):
    """Average pooling 5×5 with stride 3, a 1×1 convolution to 128, 1024 units, dropout of 70 %."""
    aux, x = published.aux1, torch.randn(2, 512, 14, 14)
    pooled = F.conv2d(x, torch.full((512, 1, 5, 5), 1 / 25), stride=3, groups=512)
    assert pooled.shape == (2, 512, 4, 4)
    hidden = F.relu(F.conv2d(pooled, aux.conv.conv.weight, aux.conv.conv.bias)).flatten(1)
    expected = aux.head(F.relu(aux.fc1(hidden)))
    torch.testing.assert_close(aux(x), expected, rtol=1e-4, atol=1e-4)
    assert (aux.conv.conv.out_channels, aux.fc1.out_features, aux.dropout.p) == (128, 1024, 0.7)
    assert published.aux2.conv.conv.in_channels == 528


@pytest.mark.parametrize("name", ["googlenet", "googlenet_cifar"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_training(name, batch_norm):
    """A gradient for every parameter; the auxiliary heads' own reach what is below them; forward gives one tensor."""
    torch.manual_seed(0)
    model = zoo.create(name, num_classes=10, width=0.25, batch_norm=batch_norm)
    x, y = torch.randn(4, 3, *[224 if name == "googlenet" else 32] * 2), torch.arange(4)
    outputs = model.forward_with_aux(x)
    assert [output.shape for output in outputs] == [(4, 10)] * 3
    losses = [F.cross_entropy(output, y) for output in outputs]
    (losses[0] + 0.3 * losses[1] + 0.3 * losses[2]).backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert p.grad.abs().sum() > 0, parameter_name
    model.zero_grad()
    F.cross_entropy(model.forward_with_aux(x)[1], y).backward()
    touched = {n.partition(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "aux1"}
    assert model(x).shape == (4, 10)
    model.eval()
    torch.testing.assert_close(model(x), model.forward_with_aux(x)[0])


def test_learns():
    torch.manual_seed(0)
    model = zoo.create("googlenet_cifar", num_classes=4, width=0.1, dropout=0.0, aux_dropout=0.0)
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(20):
        logits, aux1, aux2 = model.forward_with_aux(x)
        optimizer.zero_grad()
        F.cross_entropy(torch.cat([logits, aux1, aux2]), y.repeat(3)).backward()
        optimizer.step()
    assert [(output.argmax(1) == y).all().item() for output in model.forward_with_aux(x)] == [True] * 3


def test_heads_and_features():
    """``heads`` names all layers that num_classes sizes, and no other; without them there are features."""
    with torch.device("meta"):
        small, large = (dict(GoogLeNet(num_classes=n).named_parameters()) for n in (7, 9))
    changed = {name.rpartition(".")[0] for name, p in small.items() if p.shape != large[name].shape}
    assert changed == set(GoogLeNet.heads)
    model = zoo.create("googlenet_cifar", num_classes=0, in_channels=1).eval()
    x = torch.randn(2, 1, 32, 32)
    assert model(x).shape == (2, 400)
    assert not any(name.startswith(GoogLeNet.heads) for name in model.state_dict())
    assert [tuple(output.shape) for output in model.forward_with_aux(x)] == [(2, 400), (2, 408), (2, 408)]


def test_small_images():
    """Inception 3, 4 and 5 see 16, 8 and 4 px of a 32 px image, and the auxiliary heads 4×4 maps."""
    model = zoo.create("googlenet_cifar", num_classes=10).eval()
    x = torch.randn(1, 3, 32, 32)
    found = features(model, x, ["conv1", "inception3a", "inception4a", "inception5a"])
    assert [tuple(f.shape[2:]) for f in found.values()] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert count(model) == 1614886


def test_local_response_normalisation(published):
    """Figure 3: after the first pooling and before the second."""
    found = features(published, torch.randn(1, 3, 64, 64) * 50, ["maxpool1", "norm1", "conv3", "norm2"])
    for before, after in (("maxpool1", "norm1"), ("conv3", "norm2")):
        expected = F.local_response_norm(found[before], 5)
        torch.testing.assert_close(found[after], expected)
        assert not torch.equal(found[after], found[before])


def test_errors():
    with pytest.raises(ZooError, match="stem=vgg is unknown; valid: imagenet, cifar"):
        zoo.create("googlenet", stem="vgg")
