"""Cards, checkpoints and tokenizers that a stranger made: one line says what is wrong, and it takes no memory."""

import json
import os
import re
import tracemalloc
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.data_helpers import assert_fails
from zoo.config.build import build
from zoo.config.files import MB
from zoo.data.preprocess import Preprocess
from zoo.data.tokens import BPE, Characters
from zoo.pretrained.card import Card
from zoo.pretrained.reading import read_checkpoint
from zoo.pretrained.transfer import Mismatch, copy_weights

from .test_pretrained import LENET, make_card, make_model, ship, write_checkpoint


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ship(tmp_path / "weights", monkeypatch)


# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "is not a card"),
        ('{"name":' * 100_000 + "1" + "}" * 100_000, "is not a card"),
        ("1" * 10_000, "is not a card"),
        ("\ud800", "is not a card"),
    ],
)
def test_cards_that_are_no_json_to_read(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    assert_fails(lambda: Card.read(path), str(path), message)


def test_a_card_of_any_size_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(10**11)
    assert_fails(lambda: Card.read(path), str(path), "has 100,000.0 MB, more than the 50.0 MB")
    os.mkfifo(tmp_path / "b.json")
    assert_fails(lambda: Card.read(tmp_path / "b.json"), "is not a regular file")


def deep(levels: int) -> Any:
    node: Any = 1
    for _ in range(levels):
        node = [node]
    return node


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**LENET, "hidden": deep(150)}}, "nested more than 100 levels deep"),
        ({"metrics": {"accuracy": "x" * 10_000}}, "a metric is 'xxx"),
        ({"metrics": {"accuracy": 10**400}}, "a whole number of 1329 bits"),
        ({"runs": [{"accuracy": None}]}, "a metric is None, not a number"),
        ({"runs": [[1]]}, "a metric is [1], not a number"),
        ({"classes": [{"a": 1}]}, "classes has {'a': 1} in it, not a name"),
        ({"versions": {"torch": [1]}}, "versions has [1] in it, not a name"),
        ({"title": ["x"] * 10_000}, "title is ['x', 'x'"),
    ],
)
def test_cards_with_values_of_another_kind(changes, message):
    said = assert_fails(lambda: Card.of({**asdict(make_card()), **changes}, "a.json"), "a.json is not a card", message)
    assert len(said) < 300


@pytest.mark.parametrize("broken", ["not json", "[" * 100_000, "{}"])
def test_a_broken_card_does_not_cost_the_others(shipped, run, monkeypatch, broken):
    """It is named, the others are listed, and a page is not written without it."""
    other = shipped.with_name("broken.json")
    other.write_text(broken)
    for command in (["list"], ["results"]):
        code, out, err = run(*command)
        assert code == 1
        assert "A small net" in out or "[small]" in out
        assert re.fullmatch(rf"error: {other} is not a card: [^\n]+\n", err)
    monkeypatch.setattr("zoo.pretrained.evaluate.measure", lambda *_: {"accuracy": 0.5})
    code, out, err = run("evaluate", "--all")
    assert code == 1
    assert re.search(r"small .* accuracy .* 50\.00% .* 50\.00%", out)
    assert re.fullmatch(rf"error: {other} is not a card: [^\n]+\nerror: not what the card says: broken\n", err)
    code, out, err = run("results", "--write", "page.md")
    assert (code, out) == (1, "")
    assert not Path("page.md").exists()


# --- checkpoints ------------------------------------------------------------------------------------------------------


def cyclic() -> Any:
    node: dict[str, Any] = {"_target_": "zoo.models.lenet.LeNet5"}
    node["hidden"] = [node]
    return node


def doubling() -> Any:
    """2⁴⁰ values in forty lists."""
    node: list[Any] = [1]
    for _ in range(40):
        node = [node, node]
    return {"_target_": "zoo.models.lenet.LeNet5", "hidden": node}


@pytest.mark.parametrize("make", [cyclic, doubling, lambda: {"a": deep(200)}])
@pytest.mark.parametrize("key", ["card", "config", "callbacks"])
def test_a_checkpoint_that_holds_itself(tmp_path, make, key):
    content = {"state_dict": {}, "card": asdict(make_card()), "config": {}, "callbacks": {}}
    content[key] = {**asdict(make_card()), "model": make()} if key == "card" else make()
    torch.save(content, tmp_path / "a.ckpt")
    assert_fails(lambda: zoo.load(tmp_path / "a.ckpt"), "a.ckpt")
    assert_fails(lambda: read_checkpoint(tmp_path / "a.ckpt"), "a.ckpt", "no file of the zoo")


def odd_tensors() -> dict[str, torch.Tensor]:
    weight = make_model().state_dict()["conv1.weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of prototypes
        return {
            "meta": weight.to("meta"),
            "sparse": weight.to_sparse(),
            "quantised": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
            "nested": torch.nested.nested_tensor(list(weight)),
            "complex": weight.to(torch.complex64),
            "NaN": weight.where(weight > 0, torch.nan),
        }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", list(odd_tensors()))
def test_tensors_that_no_model_has(tmp_path, kind):
    tensor = odd_tensors()[kind]
    state = {**make_model().state_dict(), "conv1.weight": tensor}
    with pytest.raises(Mismatch, match=rf"conv1\.weight \({kind}"):
        copy_weights(make_model(), state)
    content = {"state_dict": {f"model.{k}": v for k, v in state.items()}, "card": asdict(make_card())}
    path = tmp_path / "a.ckpt"
    try:
        torch.save(content, path)
    except (NotImplementedError, RuntimeError):
        pytest.skip("torch does not save it")
    assert_fails(lambda: zoo.load(path), "a.ckpt", "conv1.weight")
    assert_fails(lambda: zoo.create("lenet5", hidden=[16], weights=path), "a.ckpt", "conv1.weight")


@pytest.mark.parametrize(
    "model",
    [
        {**LENET, "hidden": [10**9]},
        {**LENET, "hidden": [10**5]},  # 40 MB, and as much again for what is made on the way
        {**LENET, "hidden": [8] * 1_500},
        {**LENET, "hidden": [8] * 20_000},
        {"_target_": "zoo.models.recurrent.Recurrent", "num_classes": 10, "vocab_size": 10**9},
        {"_target_": "zoo.models.recurrent.Recurrent", "num_classes": 10, "vocab_size": 10, "depth": 10**9},
        {"_target_": "zoo.models.resnet.ResNet", "num_classes": 10, "in_channels": 10**9, "blocks": [1, 1, 10**9]},
    ],
)
def test_a_config_that_asks_for_more_than_the_file_has(tmp_path, model):
    path = write_checkpoint(tmp_path / "a.ckpt", card=asdict(make_card(model=model)))
    zoo.load(write_checkpoint(tmp_path / "good.ckpt"))  # what is imported on the way is not counted
    tracemalloc.start()
    try:
        assert_fails(lambda: zoo.load(path))
        assert tracemalloc.get_traced_memory()[1] < 100 * MB
    finally:
        tracemalloc.stop()


def test_what_is_made_is_a_model(tmp_path):
    for changes in (
        {"model": {**LENET, "_partial_": True}},
        {"model": {"_target_": "zoo.models.recurrent.State"}},
        {"preprocess": {**LENET}},
        {"preprocess": {**Preprocess(28, [0.1], [0.3]).config(), "_partial_": True}},
    ):
        card = asdict(make_card(**changes))
        assert_fails(lambda card=card: zoo.load(write_checkpoint(tmp_path / "a.ckpt", card=card)))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 10**9},
        {"resize": 0},
        {"std": [0.0]},
        {"mean": [float("nan")]},
        {"mean": [0.1, 0.2]},
        {"mean": []},
    ],
)
def test_a_preprocessing_that_no_image_has(tmp_path, changes):
    config = {**Preprocess(28, [0.1], [0.3]).config(), **changes}
    path = write_checkpoint(tmp_path / "a.ckpt", card=asdict(make_card(preprocess=config)))
    assert_fails(lambda: zoo.load(path), "valid")


def test_a_problem_of_any_length(tmp_path):
    for config in ({"name": "adding", "steps": 10**12}, {"name": "none", "steps": 9}):
        config["_target_"] = "zoo.data.synthetic.Problem"
        path = write_checkpoint(tmp_path / "a.ckpt", card=asdict(make_card(preprocess=config)))
        assert_fails(lambda path=path: zoo.load(path), "is not valid: adding, copy, parity; 1 to 100,000 steps")


def test_a_tokenizer_of_another_size_than_its_model(tmp_path):
    model = {"_target_": "zoo.models.recurrent.Recurrent", "num_classes": 9, "vocab_size": 9, "hidden": 4}
    card = asdict(make_card(model=model, preprocess=Characters("abc").config()))
    path = write_checkpoint(tmp_path / "a.ckpt", build(model), card)
    assert_fails(lambda: zoo.load(path), "its tokenizer has 4 tokens, its model 9")


def test_a_packed_checkpoint_is_not_unpacked(tmp_path):
    """torch would make 1 GB of 1 MB."""
    good, bad = write_checkpoint(tmp_path / "good.ckpt"), tmp_path / "bad.ckpt"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert_fails(lambda: zoo.load(bad), "bad.ckpt is compressed, or claims to hold more than it has")
    zoo.load(good)


def test_a_checkpoint_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    os.mkfifo(tmp_path / "a.safetensors")
    for path in (tmp_path / "a.ckpt", Path("/dev/zero")):
        assert_fails(lambda path=path: zoo.load(path), "is not a regular file")
    for path in (tmp_path / "a.ckpt", tmp_path / "a.safetensors"):
        assert_fails(lambda path=path: zoo.create("lenet5", weights=path), "is not a regular file")


# --- tokenizers -------------------------------------------------------------------------------------------------------

LINES = "the cat sat\non the mat\nthe end\n" * 30


def test_a_tokenizer_is_its_vocabulary_and_merges_alone():
    """It gives what the library itself makes of the content; whatever else a stranger asks for there is not done."""
    tokenizers = pytest.importorskip("tokenizers")
    good = BPE.fit(LINES, 300)
    library = tokenizers.Tokenizer.from_str(good.content)
    wanted = [i for line in LINES.splitlines(keepends=True) for i in library.encode(line).ids]
    assert good.encode(LINES).tolist() == wanted
    content = json.loads(good.content)
    content["padding"] = {
        "strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    content["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    content["normalizer"] = {"type": "Lowercase"}
    assert BPE(json.dumps(content)).encode(LINES).tolist() == wanted


@pytest.mark.parametrize(
    "damage",
    [
        lambda model: model.update(vocab={}),
        lambda model: model.update(vocab=[1]),
        lambda model: model["vocab"].update({"!": 10**6}),
        lambda model: model["vocab"].update({"no sign \u2028": len(model["vocab"])}),
        lambda model: model["vocab"].update({"!": "0"}),
        lambda model: model["merges"].append(["qq", "zz"]),
        lambda model: model["merges"].append(["q"]),
        lambda model: model["merges"].append(3),
        lambda model: model.pop("merges"),
    ],
)
def test_damaged_tokenizers(damage):
    pytest.importorskip("tokenizers")
    content = json.loads(BPE.fit(LINES, 300).content)
    damage(content["model"])
    assert_fails(lambda: BPE(json.dumps(content)), "the tokenizer is damaged")


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"model": 1}', "\ud800"])
def test_tokenizers_that_are_none(content):
    pytest.importorskip("tokenizers")
    assert_fails(lambda: build({"_target_": "zoo.data.tokens.BPE", "content": content}, "preprocess"), "damaged")
    assert_fails(lambda: Characters(""), "its vocabulary is empty")


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "defaults: [b]\n_target_: zoo.models.lenet.LeNet5\n", "a: " + "[" * 5000 + "]" * 5000, "a: &a [*a]\n", "[",
        "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]), "a: ${b", "",
        "_target_: 3", "\x00", "? [a]\n: 1", "- 1",
    ],
)  # fmt: skip
def test_configs_that_cannot_be_read(tmp_path, monkeypatch, content):
    folder = tmp_path / "configs" / "model"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(content)
    (folder / "b.yaml").write_text("defaults: [mine]\n_target_: zoo.models.lenet.LeNet5\n")
    monkeypatch.chdir(tmp_path)
    assert_fails(lambda: zoo.create("mine"), ".yaml")
