"""Exported files of each kind of model, run by onnxruntime and torch: names, free sizes, what is written beside."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.data.preprocess import Preprocess
from zoo.data.tokens import Characters
from zoo.errors import ZooError
from zoo.use import export as exporting
from zoo.use.export import export
from zoo.use.signature import parts_of, signature

IMAGES = Preprocess(mean=[0.1], std=[0.3], image_size=28)
LETTERS = Characters("abcdefghijklm")


@pytest.fixture
def model_of(monkeypatch, tmp_path):
    """Make ``export`` write a small model: (name of its config, its arguments) -> model."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, **arguments: Any) -> Any:
        torch.manual_seed(0)
        model: Any = zoo.create(name, **arguments).eval()
        model.preprocess = LETTERS if "vocab_size" in arguments else IMAGES
        model.classes, model.card = (
            ["zero", "eins", "둘"],
            SimpleNamespace(name="small", licence="CC0", task={"_target_": "zoo.tasks.classify.Classify"}),
        )
        monkeypatch.setattr(exporting, "load", lambda source, trust: model)
        return model

    return call


def session(path: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def names(things: list[Any]) -> list[str]:
    return [thing.name for thing in things]


def close(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected.detach(), rtol=1e-3, atol=1e-5)


def test_a_language_model(model_of):
    """Any batch and length; the state that a call gives is what the next one goes on from."""
    pytest.importorskip("onnxscript")
    model = model_of("lstm", num_classes=14, vocab_size=14, hidden=6, depth=2)
    path, difference = export("small")
    assert difference < 1e-5
    run = session(path)
    assert names(run.get_inputs()) == ["tokens", "h", "c"]
    assert names(run.get_outputs()) == ["logits", "next_h", "next_c"]
    assert run.get_inputs()[0].shape == ["batch", "length"]  # free dimensions have names
    assert run.get_inputs()[1].shape == [2, "batch", 6]
    assert run.get_outputs()[0].shape == ["batch", "length", 14]
    for batch, length in ((1, 1), (1, 9), (3, 4)):
        x = torch.randint(14, (batch, length))
        zeros = torch.zeros(2, batch, 6).numpy()
        logits, h, c = run.run(None, {"tokens": x.numpy(), "h": zeros, "c": zeros})
        first, state = model.forward_with_state(x)
        close(logits, first)
        for i, (last_h, last_c) in enumerate(state):
            close(h[i], last_h)
            close(c[i], last_c)
        again, *_ = run.run(None, {"tokens": x.numpy(), "h": h, "c": c})
        close(again, model.forward_with_state(x, state)[0])
    about = run.get_modelmeta().custom_metadata_map
    assert (about["name"], about["licence"], about["task"]) == ("small", "CC0", "Classify")
    assert json.loads(about["vocabulary"]) == "abcdefghijklm"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gru", {"num_classes": 14, "vocab_size": 14, "hidden": 6}),
        ("rnn", {"num_classes": 3, "vocab_size": 14, "hidden": 6, "read": "last", "bidirectional": True}),
        ("scan_lstm", {"hidden": 6, "order": "pixels"}),
    ],
)
def test_other_recurrent_nets(model_of, name, arguments):
    """By torch.export, whose program has as many operations for 784 steps as for one."""
    model = model_of(name, **arguments)
    path, difference = export("small", "torch_export")
    assert difference < 1e-5
    program = torch.export.load(path)
    assert len(program.graph.nodes) < 120
    if name == "scan_lstm":
        x = IMAGES.random_input(3)
        close(program.module()(x), model(x))
        return
    for batch, length in ((1, 3), (4, 8)):
        x = torch.randint(14, (batch, length))
        if name == "gru":
            logits, h = program.module()(x, torch.zeros(1, batch, 6))
            close(h[0], model.forward_with_state(x)[1][0][0])
        else:
            logits = program.module()(x)
        close(logits, model(x))


def test_a_generator(model_of):
    """Noise and labels to images; the discriminator is a part of its own."""
    pytest.importorskip("onnxscript")
    model = model_of("gan", hidden=[6], latent=4, conditional=True)
    run = session(export("small")[0])
    assert names(run.get_inputs()) == ["noise", "labels"]
    assert names(run.get_outputs()) == ["images"]
    z, labels = torch.randn(3, 4), torch.tensor([7, 0, 7])
    close(run.run(None, {"noise": z.numpy(), "labels": labels.numpy()})[0], model.generate(z, labels))
    about = run.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["zero", "eins", "둘"]
    assert (json.loads(about["mean"]), json.loads(about["std"]), json.loads(about["image_size"])) == ([0.1], [0.3], 28)
    assert (json.loads(about["channels"]), json.loads(about["fit"])) == (1, "resize")
    assert signature(model, "discriminator").outputs == ["scores"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("vae", {"hidden": [8], "latent": 3}), ("autoencoder", {"hidden": [8], "code": 3}), ("ppca", {"code": 3})],
)
def test_parts_of_an_autoencoder(model_of, name, arguments):
    """Images to their reconstruction, images to codes, and codes to images."""
    model = model_of(name, **arguments)
    x = IMAGES.random_input(2)
    codes = model.encode(x)
    wanted = {"whole": (x, model(x)), "encoder": (x, codes), "decoder": (codes.detach(), model.decode(codes))}
    assert parts_of(model) == list(wanted)
    for part, (given, expected) in wanted.items():
        path, _ = export("small", "torch_export", part=part)
        close(torch.export.load(path).module()(given), expected)
        inputs = {"decoder": "codes"}.get(part, "images")
        assert list(signature(model, part).inputs) == [inputs]
    extra = {"zoo.json": ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(json.loads(extra["zoo.json"])["classes"]) == ["zero", "eins", "둘"]


def test_a_part_that_is_not_there(model_of):
    model_of("linear")
    with pytest.raises(ZooError, match="--part decoder: this model has no such part; valid: whole"):
        export("small", "torch_export", part="decoder")


def test_three_batch_sizes_and_two_lengths_are_compared(model_of, monkeypatch):
    model_of("gru", num_classes=14, vocab_size=14, hidden=6)
    shapes: list[tuple[int, ...]] = []
    compare = exporting.compare
    monkeypatch.setattr(exporting, "compare", lambda *args: (shapes.append(args[2][0].shape), compare(*args))[1])
    export("small", "torch_export")
    assert len({shape[0] for shape in shapes}) >= 3
    assert len({shape[1] for shape in shapes}) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_weights())
def test_every_shipped_weight_is_exported(name, tmp_path):
    pytest.importorskip("onnxscript")
    _, difference = export(name, output=tmp_path / "model.onnx")
    assert difference < 1e-4
