"""Cards and checkpoints outlive the names of classes, arguments and tensors, and say which format they have."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.config import formats
from zoo.contracts import Story, Translator
from zoo.errors import ZooError
from zoo.pretrained.card import Card
from zoo.pretrained.reading import read_checkpoint, read_weights
from zoo.pretrained.transfer import copy_weights

from .data_helpers import assert_fails

KEPT = Path(__file__).parent / "kept"
# One a task, the ten oldest written before checkpoints had a format; what each gives for an input that is always the
# same, measured by the code of then.
OUTPUTS = {
    "adversarial": 0.34895575,
    "classify": 0.20117393,
    "classify_ema": 0.24421188,
    "density": 554.14282,
    "em": 10062.98837,
    "language": 0.22435442,
    "reconstruct": 0.49483868,
    "regress": 0.17483646,
    "semi": 0.24421199,
    "variational": 0.49421555,
    "ctc": 0.20144549,
    "story": 0.00530633,
    "translate": 0.10130855,
    "unsupervised_translate": 0.10167290,
}
each_kept = pytest.mark.parametrize("name", OUTPUTS)
ALWAYS = ("adversarial", "classify_ema", "language")  # resumed in the default tests: the three ways of updating


def output(model: Any) -> float:
    """The mean size of what a model gives for an input that is always the same."""
    random = model.preprocess.random_input(1)
    shape = random.shape
    n = shape.numel()
    x: Any = torch.linspace(0, 1, n).view(shape)
    if isinstance(random, Story):
        x = random._replace(pictures=x, words=torch.arange(30)[None] % model.card.data["num_classes"])
    elif isinstance(model, Translator):
        x = 1 + torch.arange(n).view(shape) % (model.card.data["vocab_size"] - 1)  # without padding
    elif model.card.task["_target_"].endswith("Language"):
        x = torch.arange(n).view(shape) % model.card.data["num_classes"]
    with torch.no_grad():
        found = model.log_prob((x > 0.5).float()) if hasattr(model, "log_prob") else model(x)
    return found.abs().mean().item()


def keep(name: str, folder: Path, content: dict | None = None) -> Path:
    """A kept checkpoint as the last one of a run's folder, or this content in its place."""
    path = folder / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    shutil.copy(KEPT / f"{name}.ckpt", path)
    if content is not None:
        torch.save(content, path)
    return path


# --- the checkpoints of before ----------------------------------------------------------------------------------------


def test_a_checkpoint_of_every_task_is_kept():
    tasks = {path.stem for path in (Path(zoo.__file__).parent.parent / "configs" / "task").glob("*.yaml")}
    assert tasks <= set(OUTPUTS) == {path.stem for path in KEPT.glob("*.ckpt")}
    assert "format" not in torch.load(KEPT / "classify.ckpt", weights_only=True)


@each_kept
def test_a_kept_checkpoint_loads(name):
    assert output(zoo.load(KEPT / f"{name}.ckpt")) == pytest.approx(OUTPUTS[name], rel=1e-5)


@each_kept
def test_a_kept_checkpoint_initialises_a_model(name):
    model = zoo.load(KEPT / f"{name}.ckpt")
    trained = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for p in model.parameters():
        nn.init.zeros_(p)
    assert {row.status for row in copy_weights(model, read_weights(KEPT / f"{name}.ckpt"))} == {"copied"}
    assert all(torch.equal(tensor, trained[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow) for name in OUTPUTS]
)
def test_a_kept_checkpoint_is_resumed(run_train, tmp_path, name):
    """For one more epoch; what it writes then is of today's format."""
    path = keep(name, tmp_path)
    before = read_checkpoint(path)["global_step"]
    code, text = run_train(f"resume={path}", "trainer.max_epochs=2", "test=false")
    assert code == 0, text
    after = torch.load(path, weights_only=True)
    assert after["global_step"] == 2 * before > 0
    assert after["format"] == formats.CHECKPOINT
    assert after["card"]["format"] == formats.CARD


# --- renames ----------------------------------------------------------------------------------------------------------

# What a zoo of before is to have called them
OLD_TARGETS = {
    "zoo.old.Net": "zoo.models.mlp.MLP",
    "zoo.old.Classes": "zoo.tasks.classify.Classify",
    "zoo.old.Pictures": "zoo.data.images.ImageData",
    "zoo.old.Average": "zoo.run.averaging.EMA",
    "zoo.old.Scaling": "zoo.data.preprocess.Preprocess",
}
OLD_ARGUMENTS = {
    "zoo.models.mlp.MLP": {"widths": "hidden", "shade": None},
    "zoo.data.images.ImageData": {"held_out": "val_size"},
}
OLD_TENSORS = {
    "zoo.models.mlp.MLP": {"body": "layers", "body.top": "head"},
    "zoo.tasks.classify.Classify": {"hits": "train_accuracy"},
}


@pytest.fixture
def renames(monkeypatch):
    monkeypatch.setattr(formats, "TARGETS", {**formats.TARGETS, **OLD_TARGETS})
    monkeypatch.setattr(formats, "ARGUMENTS", OLD_ARGUMENTS)
    monkeypatch.setattr(formats, "TENSORS", OLD_TENSORS)


def aged_config(node: Any) -> Any:
    """A config by the names of before."""
    if isinstance(node, list):
        return [aged_config(value) for value in node]
    if not isinstance(node, dict):
        return node
    arguments = {new: old for old, new in OLD_ARGUMENTS.get(str(node.get("_target_")), {}).items() if new}
    targets = {new: old for old, new in OLD_TARGETS.items()}
    aged = {arguments.get(key, key): aged_config(value) for key, value in node.items()}
    if "_target_" in aged:
        aged["_target_"] = targets.get(aged["_target_"], aged["_target_"])
    if aged.get("_target_") == "zoo.old.Net":
        aged["shade"] = "blue"
    return aged


def aged_name(name: str) -> str:
    for new, old in (("model.head", "model.body.top"), ("model.layers", "model.body"), ("train_accuracy", "hits")):
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def aged(content: dict) -> dict:
    """A checkpoint of before."""
    classes = {new.rpartition(".")[2]: old.rpartition(".")[2] for old, new in OLD_TARGETS.items()}
    content = {classes.get(key, key): value for key, value in content.items() if key != "format"}
    content["callbacks"] = {classes.get(key, key): state for key, state in content["callbacks"].items()}
    content["config"] = aged_config(content["config"])
    content["card"] = aged_config({key: value for key, value in content["card"].items() if key != "format"})
    for key in content.keys() & {"state_dict", "current_model_state"}:
        content[key] = {aged_name(name): tensor for name, tensor in content[key].items()}
    for state in content["random"]:
        state["metrics"] = {aged_name(name): metric for name, metric in state["metrics"].items()}
    return content


@pytest.fixture
def old(tmp_path) -> Path:
    """A checkpoint by the names of before."""
    content = aged(read_checkpoint(KEPT / "classify_ema.ckpt"))
    names = set(content["state_dict"])
    assert {"model.body.fc1.weight", "model.body.top.weight", "hits.tp"} <= names
    assert "Pictures" in content
    return keep("classify_ema", tmp_path, content)


def test_without_the_table_it_is_refused(old):
    assert_fails(lambda: zoo.load(old), "zoo.old.Net")


def test_a_renamed_checkpoint_loads(renames, old):
    model = zoo.load(old)
    assert output(model) == pytest.approx(OUTPUTS["classify_ema"], rel=1e-5)
    assert model.card == zoo.load(KEPT / "classify_ema.ckpt").card


def test_a_renamed_card_loads(renames, old, tmp_path):
    """Beside a safetensors file, whose tensors are renamed too."""
    content = torch.load(old, weights_only=True)
    of_model = {k: v for k, v in content["state_dict"].items() if k.startswith("model.")}
    weights = {name.removeprefix("model."): tensor for name, tensor in of_model.items()}
    save_file(weights, tmp_path / "old.safetensors")
    content["card"]["sha256"] = hashlib.sha256((tmp_path / "old.safetensors").read_bytes()).hexdigest()
    (tmp_path / "old.json").write_text(json.dumps(content["card"]))
    assert output(zoo.load(tmp_path / "old.safetensors")) == pytest.approx(OUTPUTS["classify_ema"], rel=1e-5)
    assert Card.read(tmp_path / "old.json").format == formats.CARD


@pytest.mark.parametrize("bare", [False, True])
def test_renamed_weights_initialise_a_model(renames, old, tmp_path, bare):
    """Those of a checkpoint, and of a bare state_dict, which does not say which model it is of."""
    if bare:
        state = torch.load(old, weights_only=True)["state_dict"]
        of_model = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        torch.save(of_model, tmp_path / "bare.pt")
    model = zoo.create("mlp", hidden=[4], weights=tmp_path / "bare.pt" if bare else old)
    expected = zoo.load(KEPT / "classify_ema.ckpt").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_a_renamed_checkpoint_is_resumed(run_train, tmp_path, monkeypatch, old):
    """It ends as the same checkpoint by today's names does, to the bit."""
    names = ("TARGETS", "ARGUMENTS", "TENSORS")
    tables: dict[str, dict] = {name: getattr(formats, name) for name in names}
    before = tables["TARGETS"]
    ends = []
    for path in (keep("classify_ema", tmp_path / "today"), old):
        if path == old:
            tables = dict(zip(names, ({**before, **OLD_TARGETS}, OLD_ARGUMENTS, OLD_TENSORS), strict=True))
        for name, table in tables.items():
            monkeypatch.setattr(formats, name, table)
        code, text = run_train(f"resume={path}", "trainer.max_epochs=3")
        assert code == 0, text
        ends.append(torch.load(path, weights_only=True))
    for key in ("state_dict", "current_model_state"):
        assert ends[0][key].keys() == ends[1][key].keys()
        assert all(torch.equal(ends[0][key][name], ends[1][key][name]) for name in ends[0][key])
    assert ends[0]["ImageData"] == ends[1]["ImageData"]
    assert ends[0]["card"]["metrics"] == ends[1]["card"]["metrics"]


def test_the_tables_lead_to_names_of_today():
    """In one step: a name that was changed twice has today's name for both of its old ones."""
    from zoo.config.checks import locate

    for new in {*formats.TARGETS.values(), *formats.ARGUMENTS, *formats.TENSORS}:
        locate(new, "zoo.config.formats")
    for table in (formats.TARGETS, *formats.ARGUMENTS.values(), *formats.TENSORS.values()):
        assert not set(table) & set(table.values())


# --- versions ---------------------------------------------------------------------------------------------------------


def content_with(tmp_path, of: str, version: Any) -> Path:
    content = torch.load(KEPT / "classify.ckpt", weights_only=True)
    (content if of == "checkpoint" else content["card"])["format"] = version
    return keep("classify", tmp_path, content)


@pytest.mark.parametrize("of", ["checkpoint", "card"])
def test_what_a_newer_zoo_wrote_is_named(run_train, tmp_path, of):
    path = content_with(tmp_path, of, 99)
    for read in (zoo.load, read_weights):
        assert_fails(lambda read=read: read(path), "has format 99", "a newer zoo wrote it; update reference-zoo")
    code, text = run_train(f"resume={path}", "trainer.max_epochs=2")
    assert code == 1
    assert text.count("\n") == 1
    assert "a newer zoo wrote it" in text


@pytest.mark.parametrize("of", ["checkpoint", "card"])
@pytest.mark.parametrize("version", ["1", 1.5, True, -1, None, [], "a" * 10_000])
def test_a_format_that_is_no_version(tmp_path, of, version):
    message = assert_fails(lambda: zoo.load(content_with(tmp_path, of, version)), "is damaged: its format is")
    assert len(message.replace(str(tmp_path), "")) < 300


def test_a_config_that_holds_itself_is_refused(tmp_path):
    content = torch.load(KEPT / "classify.ckpt", weights_only=True)
    content["config"]["data"]["more"] = content["config"]
    assert_fails(lambda: zoo.load(keep("classify", tmp_path, content)), "last.ckpt")
    assert_fails(lambda: formats.current_config(content["config"], "here"), "here", "more than 64 levels deep")


def test_a_config_whose_parts_stand_in_many_places_is_read_once():
    node: Any = {"_target_": "x"}
    for _ in range(60):
        node = [node, node]
    found = formats.current_config(node, "here")
    assert found[0] is found[1]


def test_a_card_of_any_format_is_written_in_todays(tmp_path):
    content = dict(torch.load(KEPT / "classify.ckpt", weights_only=True)["card"])
    assert "format" not in content
    Card.of(content, "here").save(tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text())["format"] == formats.CARD
    with pytest.raises(ZooError, match="its card has colour, so a newer zoo wrote it"):
        Card.of({**content, "colour": "red"}, "here")
