"""Weights from other programs: where their checkpoints keep the tensors, and what stands before the names."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import zoo
from zoo.errors import ZooError
from zoo.pretrained.names import new_names
from zoo.pretrained.reading import WRAPPERS, read_weights
from zoo.pretrained.transfer import Mismatch, copy_weights


def before(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def save(content, folder):
    torch.save(content, folder / "theirs.pt")
    return folder / "theirs.pt"


def check_read(content, folder, name="lenet5"):
    """The file's weights are those of ``zoo.create(name)`` after ``manual_seed(0)``, by both ways of reading them."""
    file, expected = save(content, folder), made(name)
    target = zoo.create(name)
    copy_weights(target, read_weights(file))
    for model in (target, zoo.create(name, weights=file)):
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())


def made(name="lenet5"):
    torch.manual_seed(0)
    return zoo.create(name).state_dict()


@pytest.mark.parametrize("key", WRAPPERS)
def test_a_checkpoint_of_another_program(key, tmp_path):
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    check_read({"epoch": torch.tensor(3), "optimizer": optimizer, key: made()}, tmp_path)


def test_trained_weights_come_before_their_average(tmp_path):
    check_read({"model_ema": before("module.", zoo.create("lenet5").state_dict()), "model": made()}, tmp_path)


def test_a_key_that_holds_settings_is_passed_over(tmp_path):
    check_read({"model": {"depth": 20}, "ema": {"state_dict": made()}}, tmp_path)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "backbone."]
)
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_what_wrappers_put_before_the_names(prefix, name, tmp_path):
    check_read({"state_dict": before(prefix, made(name))}, tmp_path, name)


def test_real_wrappers(tmp_path):
    torch.manual_seed(0)
    model = zoo.create("lenet5")
    check_read(torch.compile(model).state_dict(), tmp_path)
    check_read(AveragedModel(model).state_dict(), tmp_path)
    check_read(nn.DataParallel(model).state_dict(), tmp_path)


def test_a_part_that_was_compiled(tmp_path):
    weights = {name.replace("fc.", "fc._orig_mod."): tensor for name, tensor in made().items()}
    assert "fc._orig_mod.fc1.weight" in weights
    check_read(before("module.", weights), tmp_path)


def test_torchvision_names_with_a_prefix():
    model = zoo.create("resnet18")
    own = dict(model.state_dict())
    theirs = ["module." + name.replace("head.", "fc.") for name in own]
    assert list(new_names(model, theirs).values()) == list(own)


def test_a_model_with_a_layer_of_that_name_keeps_it():
    model = nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.Linear(2, 2)})
    names = list(model.state_dict())
    assert new_names(model, names) == dict(zip(names, names, strict=True))
    assert list(new_names(model, [f"module.{name}" for name in names]).values()) == names


def test_what_lies_beside_the_model_is_named():
    weights = {**before("model.", made()), "criterion.weight": torch.ones(3)}
    with pytest.raises(Mismatch, match=r"criterion\.weight \(unexpected\).*'init\.skip=\[criterion\]'"):
        copy_weights(zoo.create("lenet5"), weights)
    rows = copy_weights(zoo.create("lenet5"), weights, ["criterion"])
    assert {row.detail for row in rows if row.name == "head.bias"} == {"(10,), from model.head.bias"}


def test_a_file_of_two_networks_says_how_one_is_chosen():
    """The very settings that the message proposes work."""
    student, teacher = made(), zoo.create("lenet5").state_dict()
    weights = {**before("student.", student), **before("teacher.", teacher)}
    with pytest.raises(ZooError, match=r"""'init\.rename=\{student:""\}' 'init\.skip=\[teacher\]'"""):
        copy_weights(zoo.create("lenet5"), weights)
    target = zoo.create("lenet5")
    copy_weights(target, weights, ["teacher"], {"student": ""})
    assert all(torch.equal(tensor, student[name]) for name, tensor in target.state_dict().items())


def test_names_of_another_model_stay_as_they_are():
    """One layer that happens to fit is no reason to take a prefix away."""
    names = ["encoder.conv1.weight", "encoder.block.weight"]
    assert new_names(zoo.create("lenet5"), names) == dict(zip(names, names, strict=True))


def test_tensors_under_unknown_keys_are_named(tmp_path):
    file = save({"G": made(), "D": made(), "epoch": 3}, tmp_path)
    with pytest.raises(
        ZooError, match=r"holds no weights under state_dict, .* but tensors under 'G', 'D': save .*\['G'\]"
    ):
        read_weights(file)
    with pytest.raises(ZooError, match=r"holds no weights$"):
        read_weights(save({"epoch": 3, 7: torch.ones(2)}, tmp_path))
