"""Copying weights and freezing: nothing silent, and frozen means bit-identical."""

import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.pretrained.loading import other_heads
from zoo.pretrained.names import new_names
from zoo.pretrained.transfer import Mismatch, copy_weights, freeze, head_names, matches

from .test_resume import last


def statuses(rows):
    return {row.name: row.status for row in rows}


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("conv1.weight", "conv1", True), ("conv1.weight", "conv*", True), ("conv1.weight", "*.weight", True),
        ("conv10.weight", "conv1", False), ("fc.fc1.bias", "fc", True), ("head.bias", "head.*", True),
        ("head.bias", "heads", False),
    ],
)  # fmt: skip
def test_patterns(name, pattern, fits):
    assert matches(name, pattern) == fits


def test_copy_and_skip():
    source, target = zoo.create("lenet5"), zoo.create("lenet5", num_classes=5)
    before = target.head.weight.detach().clone()
    rows = statuses(copy_weights(target, source.state_dict(), skip=["head"]))
    assert rows["conv1.weight"] == "copied"
    assert rows["head.weight"] == "skipped"
    assert torch.equal(target.conv1.weight, source.conv1.weight)
    assert torch.equal(target.head.weight, before)


def test_what_no_pattern_explains_is_an_error_and_copies_nothing():
    source, target = zoo.create("lenet5", hidden=[120, 84, 50]).state_dict(), zoo.create("lenet5")
    before = {k: v.clone() for k, v in target.state_dict().items()}
    del source["conv2.bias"]
    with pytest.raises(Mismatch, match=r"'init\.skip=\[.*\]'") as error:
        copy_weights(target, source)
    rows = statuses(error.value.rows)
    assert rows["conv2.bias"] == "missing"
    assert rows["fc.fc3.weight"] == "unexpected"
    assert rows["head.weight"] == "wrong shape"
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
    with pytest.raises(ZooError, match="nothing fits 'haed'"):
        copy_weights(target, source, skip=["haed"])


def test_first_convolution_is_adapted():
    """Grey to colour and back: a grey image, repeated over the channels, gives the same output."""
    grey = zoo.create("lenet5").eval()
    colour = zoo.create("lenet5", in_channels=3).eval()
    rows = statuses(copy_weights(colour, grey.state_dict()))
    assert rows["conv1.weight"] == "adapted"
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(colour(x.expand(-1, 3, -1, -1)), grey(x), rtol=1e-4, atol=1e-5)
    again = zoo.create("lenet5").eval()
    copy_weights(again, colour.state_dict())
    torch.testing.assert_close(again(x), grey(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("resnet18", ["conv1.weight"]),
        ("googlenet", ["conv1.conv.weight"]),
        ("alexnet", ["conv1.weight"]),
        ("alexnet_2012", ["tower1.conv1.weight", "tower2.conv1.weight"]),
    ],
)
def test_first_convolution_of_any_net_is_adapted(name, first):
    """It is found by what it is; all others are copied as they are, and no other number of channels is made up."""
    grey, colour = zoo.create(name, in_channels=1), zoo.create(name, in_channels=3)
    rows = statuses(copy_weights(grey, colour.state_dict()))
    assert [row for row, status in rows.items() if status != "copied"] == first
    assert {rows[row] for row in first} == {"adapted"}
    with pytest.raises(Mismatch, match=r"conv1\S*weight \(wrong shape\)"):
        copy_weights(zoo.create(name, in_channels=4), colour.state_dict())


# --- other people's names -------------------------------------------------------------------------------------------


TORCHVISION: dict[str, dict[str, Any]] = {  # how the zoo's model becomes torchvision's
    "alexnet": {}, "resnet18": {}, "resnet50": {}, "googlenet": {"kernel5": 3, "pool4": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_weights_fit(name):
    """Every tensor finds its place, the table says which were called otherwise, and nothing else is renamed."""
    options = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(weights=None, **options).state_dict()
    model = zoo.create(name, **TORCHVISION[name])
    rows = copy_weights(model, theirs)
    assert {row.status for row in rows} == {"copied"}
    assert len(rows) == len(theirs)
    last = "classifier.6.weight" if name == "alexnet" else "fc.weight"
    assert torch.equal(model.head.weight, theirs[last])
    renamed = {row.name: row.detail.partition("from ")[2] for row in rows if "from " in row.detail}
    assert renamed
    assert not set(renamed.values()) & set(model.state_dict())
    again = zoo.create(name, **TORCHVISION[name])
    assert not [row for row in copy_weights(again, model.state_dict()) if "from " in row.detail]


def test_weights_of_before_batches_were_counted():
    """Torchvision's first files have no num_batches_tracked, which torch's own loading does not miss either."""
    source, target = zoo.create("resnet18"), zoo.create("resnet18")
    weights = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    rows = statuses(copy_weights(target, weights))
    assert rows["bn1.num_batches_tracked"] == "skipped"
    assert rows["bn1.running_mean"] == "copied"
    del weights["bn1.running_mean"]
    with pytest.raises(Mismatch, match=r"bn1\.running_mean \(missing\)"):
        copy_weights(target, weights)


def test_rename():
    source, target = zoo.create("lenet5"), zoo.create("lenet5")
    theirs = {f"net.{k.replace('head', 'out').replace('fc.', 'dense.')}": v for k, v in source.state_dict().items()}
    rows = copy_weights(target, theirs, rename={"net": "", "net.out": "head", "net.dense": "fc"})
    assert {row.status for row in rows} == {"copied"}
    assert {row.name: row.detail for row in rows}["head.bias"] == "(10,), from net.out.bias"
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())
    with pytest.raises(ZooError, match=r"init\.rename: nothing is named out in the weights; tensors: net\.conv1"):
        copy_weights(target, theirs, rename={"out": "head"})
    with pytest.raises(ZooError, match="would all be head"):
        copy_weights(target, theirs, rename={"net": "", "net.out": "head", "net.dense.fc1": "head"})


def test_rename_takes_part_of_a_name_for_no_layer():
    """conv1 is not the beginning of conv10, and what a model has under that name stays."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "conv1": nn.Linear(2, 2)})
    assert new_names(model, ["conv10.weight", "a.bias"], {"a": "conv1"}) == {
        "conv10.weight": "conv10.weight", "a.bias": "conv1.bias"
    }  # fmt: skip


def test_rename_on_the_command_line(run_train, tmp_path):
    weights = {f"net.{k.replace('head', 'out')}": v for k, v in zoo.create("lenet5").state_dict().items()}
    torch.save(weights, tmp_path / "theirs.pt")
    command = ("init.weights=theirs.pt", "debug=fast", "logger=none", "callbacks.progress=null")
    code, output = run_train(*command, 'init.rename={net:"",net.out:head}')
    assert code == 0, output
    assert "from net.out.weight" in output
    code, output = run_train(*command, "init.rename=[net]")
    assert code == 1
    assert "init.rename=[net] is not valid: give pairs, 'init.rename={their.layer:ours}'" in output


# --- heads ----------------------------------------------------------------------------------------------------------


def test_heads_of_another_size_keep_their_initial_value(tmp_path):
    """All that a model's class names, and no other layer; a headless model takes none of them."""
    source = zoo.create("googlenet", width=0.25)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    assert head_names(source) == ("head", "aux1.head", "aux2.head")
    assert head_names(zoo.create("lenet5")) == ("head",)
    three = zoo.create("googlenet", weights=tmp_path / "weights.pt", width=0.25, num_classes=3)
    assert torch.equal(three.aux1.conv.conv.weight, source.aux1.conv.conv.weight)
    assert three.aux1.head.out_features == three.head.out_features == 3
    same = zoo.create("googlenet", weights=tmp_path / "weights.pt", width=0.25)
    assert torch.equal(same.aux2.head.weight, source.aux2.head.weight)
    zoo.create("googlenet", weights=tmp_path / "weights.pt", width=0.25, num_classes=0)
    with pytest.raises(ZooError, match="does not fit googlenet"):
        zoo.create("googlenet", weights=tmp_path / "weights.pt", width=0.5)


def test_branches_that_a_model_has_not_are_excused_whole(tmp_path):
    """As of auxiliary heads that a model was built without."""
    weights = zoo.create("lenet5").state_dict()
    model = Branched()
    assert other_heads(model, {**model.state_dict(), "aux.fc.weight": weights["fc.fc1.weight"]}) == []
    assert other_heads(model, {**model.state_dict(), "aux2.fc.weight": weights["fc.fc1.weight"]}) == ["aux2"]


class Branched(nn.Module):
    heads = ("head", "aux.head", "aux2.head")

    def __init__(self):
        super().__init__()
        self.aux = nn.ModuleDict({"fc": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
        self.head = nn.Linear(2, 2)


def test_features_leave_branches_out():
    extractor = zoo.create("googlenet", width=0.25, features_only="all")
    assert not [name for name in extractor.layers if name.startswith(("aux", "head"))]
    assert len(extractor(torch.randn(2, 3, 64, 64))) == len(extractor.layers)


# --- freezing -------------------------------------------------------------------------------------------------------


def test_freeze_all_but():
    """``!head`` leaves the head alone; dropout and norms before it stand still, a branch that holds a head does not."""
    model = zoo.create("lenet5", batch_norm=True, dropout=0.5)
    frozen = freeze(model, ["!head"])
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert frozen == [name for name in model.state_dict() if not name.startswith("head")]
    model.train()
    assert model.training
    assert not any(m.training for n, m in model.named_modules() if n and not n.startswith("head"))
    branched = zoo.create("googlenet_cifar", num_classes=10)
    freeze(branched, ["!*head"])
    assert branched.train().aux1.training
    assert not branched.aux1.conv.bn.training
    with pytest.raises(ZooError, match="nothing fits '!stem'"):
        freeze(model, ["!stem"])


def test_freeze_holds_layers_still_in_train_mode():
    model = zoo.create("lenet5", batch_norm=True, dropout=0.5)
    frozen = freeze(model, ["conv*", "norm*", "fc"])
    assert "norm1.weight" in frozen
    model.train()
    assert not model.norm1.training
    assert not model.fc.drop1.training
    assert model.head.training
    before = model.norm1.running_mean.clone()
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(model(x), model(x))
    assert torch.equal(model.norm1.running_mean, before)
    assert not pickle.loads(pickle.dumps(model)).train().norm1.training
    with pytest.raises(ZooError, match=r"init\.freeze: nothing fits 'stem'; layers: conv1"):
        freeze(model, ["stem"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_is_bit_identical_after_training(run_train, tmp_path, optimizer):
    """Weight decay, momentum, EMA, batch norm and dropout notwithstanding."""
    source = zoo.create("lenet5", batch_norm=True)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    code, output = run_train(
        f"optimizer={optimizer}", "optimizer.weight_decay=0.1", "callbacks=[default,ema]", "model.batch_norm=true",
        "model.dropout=0.2", "init.weights=weights.pt", "init.skip=[head]", "init.freeze=[conv1,norm1,conv2,norm2]",
        "trainer.max_epochs=1", "callbacks.ema.decay=0.5", "task.l2=0.1", "trainer.log_every_n_steps=1",
    )  # fmt: skip
    assert code == 0, output
    for word in ("copied", "skipped", "frozen"):
        assert word in output
    trained = {k.removeprefix("model."): v for k, v in last(tmp_path)["state_dict"].items()}
    for name, tensor in source.state_dict().items():
        same = torch.equal(trained[name], tensor)
        assert same == name.startswith(("conv", "norm")), name


def test_init_errors_on_the_command_line(run_train, tmp_path):
    torch.save(zoo.create("lenet5", num_classes=5).state_dict(), tmp_path / "five.pt")
    code, output = run_train("init.weights=five.pt")
    assert code == 1
    assert "wrong shape" in output
    assert "'init.skip=[head]'" in output.splitlines()[-1]
    code, output = run_train("init.weights=lenet5_mnits")
    assert code == 1
    assert "no shipped weight or file is named" in output
    code, output = run_train("init.freeze=conv1")
    assert (code, output) == (1, "error: init.freeze=conv1 is not valid: give a list, 'init.freeze=[conv1]'\n")
