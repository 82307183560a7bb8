"""Copying weights and freezing: nothing silent, and frozen means bit-identical."""

import pickle

import pytest
import torch

import zoo
from zoo.errors import ZooError
from zoo.transfer import Mismatch, copy_weights, freeze, matches

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
