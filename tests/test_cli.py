"""The command zoo: what it prints, what it returns, and one line for whatever is wrong."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

import zoo
from zoo import cli
from zoo.cli import base
from zoo.pretrained import card as cards
from zoo.pretrained.card import Card, show
from zoo.run import publish
from zoo.use import export

from .conftest import REPO
from .test_pretrained import LENET, RunsCode, make_card, make_model, own, ship, write_checkpoint  # noqa: F401

COMMANDS = ("list", "info", "predict", "evaluate", "export", "publish", "results", "download", "push")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """One small weight is shipped; returns its card's path. The working directory is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ship(tmp_path / "weights", monkeypatch)


@pytest.fixture
def digits(shipped):
    """A good image, and a folder of two."""
    Image.new("L", (40, 30), 9).save("one.png")
    Path("scans").mkdir()
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (28, 28)).save(Path("scans") / name)
    Path("scans/notes.txt").write_text("no image")
    Path("scans/.hidden.png").write_text("a system's own")


# --- list, info -------------------------------------------------------------------------------------------------------


def test_list(run, shipped, own):  # noqa: F811
    code, out, _ = run("list")
    assert code == 0
    assert "linear, lstm, made, mine, mlp" in out
    assert re.search(r"small .*mnist .*48,014 .*50\.00% .*A small net", out)


def test_list_cuts_only_titles_and_those_for_terminals_alone(run, shipped, own, monkeypatch):  # noqa: F811
    card = make_card(title="A small net " * 20, metrics={"accuracy": 0.5, "accuracy_plain": 0.4}, command="x")
    card.sha256 = Card.read(shipped).sha256
    card.save(shipped)
    assert "A small net " * 19 + "A small net" in run("list")[1]
    for columns, title in ((30, ""), (80, "A small net A small net")):
        monkeypatch.setattr(base, "console", Console(width=columns, force_terminal=True, color_system=None))
        out = run("list")[1]
        assert re.search(rf"small +mnist +0 +50\.00% *{title}", out)
        assert "without TTA" not in out
        assert ("title" in out) == bool(title)
        assert "A small net " * 5 not in out


def test_info_of_a_weight(run, shipped):
    card = make_card(
        command="python train.py 'init.skip=[head]'", runs=[{"seed": 0, "accuracy": 0.5}, {"seed": 1, "accuracy": 0.7}]
    )
    card.sha256 = Card.read(shipped).sha256
    card.save(shipped)
    code, out, _ = run("info", "small")
    assert code == 0
    for words in ("A small net", "'init.skip=[head]'", "60.00% ± 14.14% (2 runs)", "6×28×28", "2,416", "14×14"):
        assert words in out


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "linear", "mlp"])
def test_info_of_a_model(run, shipped, name):
    """A size that a run takes from its data is said in words, not as an interpolation."""
    code, out, _ = run("info", name)
    assert code == 0
    assert "zoo.models." in out
    assert "${" not in out
    assert re.search(r"num_classes +. from the data +", out)
    assert f"{sum(p.numel() for p in zoo.create(name).parameters()):,}" in out


def test_info_says_what_layers_cost_and_see(run, shipped):
    """LeNet-5's second convolution: 16·6·25 weights on 10×10 maps, each of 14 px, 2 px apart."""
    _, out, _ = run("info", "lenet5")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["conv2"] == ["conv2", "Conv2d", "5×5", "16×10×10", "2,416", "240,000", "14×14", "2"]
    assert rows["fc.fc1"] == ["fc.fc1", "Linear", "120", "48,120", "48,000", "all"]
    assert rows["all"] == ["all", "61,706", "416,520"]


def test_info_of_a_model_that_takes_no_images(run, own):  # noqa: F811
    """Then there are no shapes, and the rest is there."""
    (own / "my_module.py").write_text("from torch import nn\n\n\ndef table():\n    return nn.Embedding(7, 3)\n")
    (own / "configs/model/mine.yaml").write_text("_target_: my_module.table\n")
    code, out, _ = run("info", "mine")
    assert code == 0
    assert "Embedding(7, 3)" in out


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predict(run, digits):
    code, out, err = run("predict", "small", "one.png", "scans", "--top", 2)
    left_out = "note: scans: some of its entries are left out; not named as images are: 1 (notes.txt)\n"
    assert (code, err) == (0, left_out)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["one.png", "scans/a.jpg", "scans/b.png"]
    assert all(re.fullmatch(r"\S+  \d \d+\.\d%  \d \d+\.\d%", line) for line in lines)


def test_predict_json_is_pure_and_right(run, digits):
    code, out, _ = run("predict", "small", "one.png", "--json", "--top", 99)
    assert code == 0
    (result,) = json.loads(out)
    found = {p["class"]: p["probability"] for p in result["predictions"]}
    model = zoo.load("small")
    wanted = model(model.preprocess(model.preprocess.read("one.png"))).softmax(1)[0].tolist()
    assert found == pytest.approx(dict(zip("0123456789", wanted, strict=True)), abs=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_predict_inverted(run, digits):
    """Ink on paper, inverted, is what light on dark is."""
    pixels = torch.randint(0, 256, (28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.numpy()).save("light.png")
    Image.fromarray((255 - pixels).numpy()).save("ink.png")
    light = json.loads(run("predict", "small", "light.png", "--json")[1])[0]["predictions"]
    assert json.loads(run("predict", "small", "ink.png", "--json", "--invert")[1])[0]["predictions"] == light


def test_predict_goes_on_after_bad_files(run, digits):
    Path("text.png").write_text("no image")
    Path("empty.png").touch()
    Path("cut.png").write_bytes(Path("one.png").read_bytes()[:60])
    Path("[red].png").write_bytes(Path("one.png").read_bytes())
    Path("nothing").mkdir()
    bad = ["text.png", "empty.png", "cut.png", "missing.png", "nothing"]
    code, out, err = run("predict", "small", *bad, "[red].png", "one.png", "--json")
    assert code == 1
    assert [result["file"] for result in json.loads(out)] == ["[red].png", "one.png"]
    assert sorted(re.findall(r"^error: ([^:]+): .", err, flags=re.M)) == sorted(bad)
    assert len(err.splitlines()) == len(bad)
    code, out, _ = run("predict", "small", "text.png", "[red].png")
    assert code == 1
    assert out.startswith("[red].png  ")


def test_predict_with_a_card_of_other_classes(fails, shipped, digits):
    path = write_checkpoint(Path("own.ckpt"), card={**vars(make_card()), "classes": ["a", "b"]})
    assert "gives (10,) numbers per image, but its card names 2 classes" in fails("predict", path, "one.png")


# --- evaluate, publish ------------------------------------------------------------------------------------------------


def test_from_a_run_to_a_shipped_weight(run_train, run, shipped, tmp_path):
    """Train, publish, list, evaluate; a card that says something else is found out."""
    for seed in (0, 1):
        whole = "trainer.limit_test_batches=null"
        code, output = run_train("debug=fast", whole, "logger=none", "model=linear", f"seed={seed}", f"name=run{seed}")
        assert code == 0, output
    runs = sorted(Path("logs").glob("run*/*"))
    code, out, err = run("publish", "tiny_linear", *runs)
    assert code == 0, err
    assert re.fullmatch(r"tiny_linear: \d+\.\d\d%; over 2 seeds \d+\.\d\d% ± \d+\.\d\d%\n", out)
    card = Card.read(cards.shipped()["tiny_linear"])
    assert [r["seed"] for r in card.runs] == [0, 1]
    assert zoo.load("tiny_linear").card.parameters == 7850
    assert "tiny_linear" in run("list")[1]
    assert "| [tiny_linear](zoo/weights/tiny_linear.json) | mnist | 7,850 |" in run("results")[1]

    code, out, err = run("evaluate", "tiny_linear")
    assert (code, err) == (0, "")
    assert f"{card.metrics['accuracy']:.2%}" in out
    assert card.quick_examples == 200  # all that there are
    assert card.quick_metrics.keys() == card.metrics.keys()
    code, out, err = run("evaluate", "tiny_linear", "--quick")
    assert (code, err) == (0, "")
    assert re.search(r"│ +200 │ accuracy .*" + f"{card.quick_metrics['accuracy']:.2%}", out)
    assert "first 200 test examples" in run("info", "tiny_linear")[1]
    card.metrics["accuracy"] += 0.002
    card.metrics["no_longer_measured"] = 1.0
    card.quick_metrics["loss"] *= 1.003
    card.save(cards.WEIGHTS / "tiny_linear.json")
    code, out, err = run("evaluate", "tiny_linear", "--quick")
    assert (code, err) == (1, "error: not what the card says: tiny_linear\n")
    assert len(re.findall("differs", out)) == 1
    code, out, err = run("publish", "tiny_linear", "--quick")
    assert code == 0, err
    assert re.match(r"tiny_linear: first \d+ test examples: loss ", out)  # fewer on a slow machine
    assert run("evaluate", "tiny_linear", "--quick")[0] == 0
    assert Card.read(cards.shipped()["tiny_linear"]).metrics == card.metrics
    (cards.WEIGHTS / "small.json").write_text("no card")
    code, out, err = run("evaluate", "--all")
    assert code == 1
    assert re.fullmatch(r"error: .*small\.json is not a card: .*\nerror: not what .* says: small, tiny_linear\n", err)
    assert len(re.findall("differs", out)) == 2


def write_run(run: str, seed: int = 0, select: str = "last", **changes: dict) -> Path:
    """The folder of a tested run; returns the checkpoint that was tested."""
    folder = Path(run, "checkpoints")
    folder.mkdir(parents=True)
    callbacks = {"last": {"dirpath": str(folder)}, "progress": {"_target_": run}}
    config = {"seed": seed, "name": run, "select": select, "data": {"seed": seed}, "callbacks": callbacks}
    config["trainer"] = {"limit_test_batches": None}
    for group, values in changes.items():
        config[group] = {**config.get(group, {}), **values}
    for name in {"last", select}:
        card = vars(make_card(metrics={"accuracy": 0.5} if name == select else {"val/accuracy": 0.5}))
        path = write_checkpoint(folder / f"{name}.ckpt", card=card)
        torch.save({**torch.load(path), "config": config}, path)
    Path(run, "metrics.json").write_text('{"test/accuracy": 0.5, "test/top5": 1.0}')
    return folder / f"{select}.ckpt"


@pytest.fixture
def measured(monkeypatch):
    """What publishing measures, without data: this dictionary, on all test examples and on the first ten."""
    found = {"accuracy": 0.5}
    monkeypatch.setattr("zoo.run.publish.measure", lambda *_: dict(found))
    monkeypatch.setattr("zoo.run.publish.measure_quick", lambda *_: (10, dict(found)))
    return found


def test_runs_that_differ_in_seed_alone(run, fails, shipped, measured):
    """Folders, names and progress bars are no matter; all that makes a result is, and is named."""
    write_run("run0")
    write_run("run1", 1)
    assert run("publish", "x", "run0", "run1") == (0, "x: 50.00%; over 2 seeds 50.00% ± 0.00%\n", "")
    for name, changes in {
        "callbacks.ema.decay": {"callbacks": {"ema": {"decay": 0.99}}},
        "callbacks.early_stopping.patience": {"callbacks": {"early_stopping": {"patience": 5}}},
        "trainer.precision": {"trainer": {"precision": "bf16-mixed"}},
        "data.batch_size": {"data": {"batch_size": 1}},
        "model.hidden": {"model": {"hidden": [17]}},
    }.items():
        write_run(name, 2, **changes)
        assert f"{name} was trained with other settings than run0 ({name})" in fails("publish", "x", "run0", name)
    write_run("again")
    assert "same seed" in fails("publish", "x", "run0", "again")


def test_seeds_are_added(run, fails, shipped, measured):
    """The weights stay; what is no further seed of the same experiment is refused, and the card stays whole."""
    write_run("run0")
    run("publish", "x", "run0", "--note", "before")
    weights = (cards.WEIGHTS / "x.safetensors").read_bytes()
    write_run("run1", 1)
    assert run("publish", "x", "run1", "--add") == (0, "x: 50.00%; over 2 seeds 50.00% ± 0.00%\n", "")
    card = Card.read(cards.shipped()["x"])
    assert [r["seed"] for r in card.runs] == [0, 1]
    assert card.note == "before"
    assert (card.quick_examples, card.quick_metrics) == (10, {"accuracy": 0.5})
    assert (cards.WEIGHTS / "x.safetensors").read_bytes() == weights
    assert "same seed" in fails("publish", "x", "run1", "--add")
    path = write_run("run2", 2)
    content = torch.load(path)
    for changes, named in (
        ({"command": "python train.py experiment=x trainer.max_epochs=3 seed=2"}, "command"),
        ({"data": {**content["card"]["data"], "batch_size": 7}}, "data.batch_size"),
    ):
        torch.save({**content, "card": {**content["card"], **changes}}, path)
        message = fails("publish", "x", "run2", "--add")
        assert f"run2 is another experiment than x: they differ in {named}" in message
    assert "nothing is shipped as y" in fails("publish", "y", "run0", "--add")
    assert Card.read(cards.shipped()["x"]) == card


def test_half_precision_on_disk(run, fails, shipped, measured):
    """The file is half as large, the model is in float32 again; no file where the metric moves."""
    write_run("run0")
    run("publish", "x", "run0")
    whole, model = (cards.WEIGHTS / "x.safetensors").stat().st_size, zoo.load("x")
    assert run("publish", "x", "run0", "--half")[0] == 0
    half, again = (cards.WEIGHTS / "x.safetensors").stat().st_size, zoo.load("x")
    assert 0.5 < half / whole < 0.6
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert q.dtype == torch.float32
        assert torch.equal(q, p.half().float())
    measured["accuracy"] = 0.49
    assert "in half precision accuracy is 49.00%, not 50.00%" in fails("publish", "x", "run0", "--half")
    assert Card.read(cards.shipped()["x"]).metrics == {"accuracy": 0.5}


def test_the_tested_checkpoint(fails, run, shipped, measured):
    """It is the selected one, and still in the state that was tested."""
    write_run("best", select="best")
    assert publish.tested_checkpoint(Path("best")).name == "best.ckpt"
    path = write_run("run", select="last")
    write_checkpoint(path.with_name("best.ckpt"))
    assert publish.tested_checkpoint(Path("run")) == path
    content = torch.load(path)
    for noted in ({"accuracy": 0.6}, {"val/accuracy": 0.5}):  # tested again elsewhere; trained on
        torch.save({**content, "card": vars(make_card(metrics=noted))}, path)
        assert "metrics.json was not measured on last.ckpt as it is now" in fails("publish", "x", "run")
    Path("run/metrics.json").write_text("{}")
    for untested in ("run", "nowhere"):
        assert "is not the folder of a run that was tested" in fails("publish", "x", untested)
    measured.clear()
    measured["loss"] = 0.1
    assert "the card shows accuracy first, but its task measures loss" in fails("publish", "x", "best")
    assert not (cards.WEIGHTS / "x.json").exists()


def test_a_card_without_accuracy(run, shipped):
    """Of a language model, say: no classes, and perplexity is never in per cent."""
    runs = [{"seed": 0, "perplexity": 4.0, "loss": 1.4}, {"seed": 1, "perplexity": 5.0, "loss": 1.6}]
    card = make_card(metric="perplexity", metrics={"loss": 1.4, "perplexity": 4.0}, classes=[], runs=runs)
    card.sha256 = Card.read(shipped).sha256
    card.save(shipped)
    assert "perplexity 4.0000" in run("list")[1]
    assert re.search(r"perplexity over seeds .*4\.5000 ± 0\.7071 \(2 runs\)", run("info", "small")[1])
    assert "| perplexity 4.0000 ↓ |  | perplexity 4.5000 ± 0.7071 |  | 0.0 | 0, 1 |" in run("results")[1]
    Path("docs").mkdir()
    for page in ("README.md", "docs/shipped.md"):
        Path(page).write_text("<!-- shipped -->\n<!-- /shipped -->\n")
    assert run("results", "--readme")[0] == 0
    for page in ("README.md", "docs/shipped.md"):
        assert "| perplexity 4.0000 ↓ |" in Path(page).read_text()


def test_what_evaluate_lets_pass(shipped, monkeypatch):
    """Rates may move by a few images, losses by a share of themselves."""
    module = importlib.import_module("zoo.pretrained.evaluate")
    make_card(
        metrics={"accuracy": 0.5, "calibration_error": 0.01, "loss": 0.02, "perplexity": 100.0},
        sha256=Card.read(shipped).sha256,
    ).save(shipped)
    near = {"accuracy": 0.5004, "calibration_error": 0.0145, "loss": 0.0203, "perplexity": 101.0}
    monkeypatch.setattr(module, "measure", lambda *_: near)
    assert module.evaluate("small")[2] == {}
    far = {"accuracy": 0.5006, "calibration_error": 0.0155, "loss": 0.0205, "perplexity": 97.0}
    monkeypatch.setattr(module, "measure", lambda *_: far)
    assert module.evaluate("small")[2] == far


def test_metrics_for_people():
    shown = {name: show(name, 0.0123) for name in ("test/accuracy", "top5", "f1", "calibration_error", "error")}
    assert set(shown.values()) == {"1.23%"}
    assert show("val/loss", 0.019) == "0.0190"
    assert show("perplexity", 3.5) == "3.5000"


def test_evaluate_arguments(fails, shipped):
    assert "give a name, or --all" in fails("evaluate")
    assert "give a name, or --all" in fails("evaluate", "small", "--all")
    assert "--text measures the whole file" in fails("evaluate", "small", "--text", "x.txt", "--quick")
    assert "small: its card has no figures of the first test examples" in fails("evaluate", "small", "--quick")
    assert "give the folders of finished runs; or --quick or --typical" in fails("publish", "small")
    assert "give the folders of finished runs; or --quick or --typical" in fails("publish", "small", "run0", "--quick")
    assert "nothing is shipped as x" in fails("publish", "x", "--quick")
    shipped.unlink()
    assert "no weights are shipped here" in fails("evaluate", "--all")


def test_results(run, fails, shipped, tmp_path):
    assert run("results", "--write", "RESULTS.md")[0] == 0
    assert "| 50.00% ↑ | 50.00% | one seed |" in Path("RESULTS.md").read_text()
    page = "# Zoo\n<!-- shipped: made -->\nold\n<!-- /shipped -->\nrest\n"
    pages = [Path("README.md"), Path("docs/shipped.md")]
    pages[1].parent.mkdir()
    for path in pages:
        path.write_text(page)
    assert run("results", "--readme")[0] == 0
    once = [path.read_text() for path in pages]
    assert once[0].startswith("# Zoo\n<!-- shipped: made -->\n\n| models |")
    assert once[0].endswith("| `small` | 50.00% ↑ |\n\n<!-- /shipped -->\nrest\n")
    row = "| [small](../zoo/weights/small.json) | A small net | 48,014 | 50.00% ↑ |  |"
    assert once[1].endswith(f"{row}\n\n<!-- /shipped -->\nrest\n")
    run("results", "--readme")
    assert [path.read_text() for path in pages] == once
    for bad, good in (pages, pages[::-1]):
        good.write_text(page)
        bad.write_text("no marks")
        assert f"{bad} has no lines" in fails("results", "--readme")
        assert good.read_text() == page
    assert "No such file" in fails("results", "--write", "no/such/RESULTS.md")


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_onnx(run, shipped):
    """What another program computes from the file, for batches of any size, is what the model computes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    code, out, _ = run("export", "small", "--format", "onnx")
    assert code == 0
    assert re.search(r"small\.onnx: largest difference of an output \d\.\de-\d\d", out)
    session = onnxruntime.InferenceSession("small.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 3):
        x = torch.randn(n, 1, 28, 28)
        (logits,) = session.run(["logits"], {"images": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), make_model()(x), rtol=1e-4, atol=1e-5)
    assert os.listdir() == ["small.onnx"]


def test_export_torch(run, shipped):
    assert run("export", "small", "--format", "torch_export", "--output", "any.name")[0] == 0
    x = torch.randn(4, 1, 28, 28)
    Path("any.name").rename("any.pt2")
    torch.testing.assert_close(torch.export.load("any.pt2").module()(x), make_model()(x))
    assert os.listdir() == ["any.pt2"]


def test_export_errors(fails, shipped, monkeypatch):
    """An earlier file stays as it was, whatever fails; nothing half-made is left."""
    Path("earlier").write_text("precious")
    torch_export = ("export", "small", "--format", "torch_export", "--output")
    assert "--format onxx is unknown; valid: onnx, torch_export" in fails("export", "small", "--format", "onxx")
    assert "cannot be written: No such file or directory" in fails(*torch_export, "no/such/folder/x.pt2")
    assert "cannot be written: Not a directory" in fails(*torch_export, "earlier/x.pt2")
    with monkeypatch.context() as patch:
        patch.setattr(export, "compare", lambda *_: float("nan"))
        assert "outputs that differ by nan" in fails(*torch_export, "earlier")
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", lambda *_, **__: 1 / 0)
        assert "torch_export cannot express this model: ZeroDivisionError" in fails(*torch_export, "earlier")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert "needs an extra: pip install 'reference-zoo[onnx]'" in fails("export", "small", "--output", "earlier")
    assert Path("earlier").read_text() == "precious"
    assert os.listdir() == ["earlier"]


# --- download, push ---------------------------------------------------------------------------------------------------


def test_download_says_where_files_are(run, fails, shipped, toy_data, monkeypatch, tmp_path):
    weights = str(shipped.with_suffix(".safetensors"))
    assert run("download", "small") == (0, f"{weights}\n", "")
    assert run("download", "--all") == (0, f"{weights}\n", "")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    assert run("download", "fashion_mnist")[1] == f"{tmp_path}/data/prepared/fashion_mnist.safetensors\n"
    assert run("download", "ptb")[1] == f"{tmp_path}/data/ptb\n"
    assert "zoo/embedded" in (shown := run("download", "shakespeare")[1]) or shown.endswith("data/shakespeare\n")
    assert "no shipped weight or data set is named 'smal'; did you mean small?" in fails("download", "smal")
    for arguments in ((), ("small", "--all")):
        assert "give a name, or --all" in fails("download", *arguments)
    assert "--folder is for all weights" in fails("download", "small", "--folder", "out")
    code, out, _ = run("download", "--all", "--folder", "out")
    assert (code, out) == (0, "out: 5 files, 13 MB\n")
    files = ["SHA256SUMS", "cifar10_small.test.png", "cifar10_small.train.png", "small.json", "small.safetensors"]
    assert sorted(os.listdir("out")) == files
    for line in Path("out/SHA256SUMS").read_text().splitlines():
        digest, file = line.split("  ")
        assert hashlib.sha256(Path("out", file).read_bytes()).hexdigest() == digest


def test_push_to_a_folder(run, fails, shipped):
    code, out, _ = run("push", "small", "--folder", "out", "--licence", "mit")
    assert (code, out.split()) == (0, ["out/model.safetensors", "out/model.json", "out/README.md"])
    assert run("info", "out/model.safetensors")[0] == 0
    for arguments in ((), ("a/b", "--folder", "out")):
        assert "give a repository, as in owner/name, or --folder" in fails("push", "small", *arguments)
    assert "small-net is no name of a repository; write owner/name" in fails("push", "small", "small-net")


# --- bad input --------------------------------------------------------------------------------------------------------

USES = (("info",), ("predict", "one.png"), ("evaluate",), ("export", "--format", "torch_export"))


@pytest.mark.parametrize("use", USES, ids=[use[0] for use in USES])
def test_bad_checkpoints(fails, digits, tmp_path, use):
    """One line, exit code 1 and no traceback, whatever is done with the file; what is in it does not run."""
    marker = tmp_path / "ran"
    Path("text.ckpt").write_text("a text")
    torch.save({"card": {}, "more": RunsCode(marker)}, "evil.ckpt")
    write_checkpoint(Path("cut.ckpt")).write_bytes(Path("cut.ckpt").read_bytes()[:-999])
    write_checkpoint(Path("target.ckpt"), card={**vars(make_card()), "model": {"_target_": "os.system"}})
    write_checkpoint(Path("other.ckpt"), zoo.create("linear"))
    write_checkpoint(Path("huge.ckpt"), card={**vars(make_card()), "model": {**LENET, "hidden": [10**15]}})
    command, *rest = use
    for source, message in {
        "text.ckpt": "is not a checkpoint", "cut.ckpt": "is not a checkpoint", "scans": "is a folder",
        "evil.ckpt": "would run code when loaded, so it was not loaded", "target.ckpt": "asks for os.system",
        "other.ckpt": "not of the model that its card names", "none.ckpt": "no such file",
        "huge.ckpt": "not of the model that its card names",
        "smal": "did you mean small?",
    }.items():  # fmt: skip
        assert message in fails(command, source, *rest)
    assert not marker.exists()


def test_unforeseen_errors_are_one_line_too(fails, monkeypatch, shipped):
    def broken(*_):
        raise RuntimeError("first line\n  second line")

    monkeypatch.setattr("zoo.pretrained.loading.load", broken)
    assert "RuntimeError: first line second line (the traceback: ZOO_TRACEBACK=1" in fails("info", "small")
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["zoo", "info", "small"])
    with pytest.raises(RuntimeError):
        cli.main()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "no command is named 'lst'; did you mean list? valid: calibrate, checks, demo, "),
        (["info"], "zoo info: missing argument 'name'; zoo info --help shows what it takes"),
        (["list", "--dta", "mnist"], "zoo list --dta: no such option; did you mean --data? valid: --data, --"),
        (["list", "--bad"], "zoo list --bad: no such option; valid: --data, --"),
        (["list", "--data"], "zoo: option '--data' requires an argument; zoo --help"),
        (["list", "more"], "zoo list: got unexpected extra argument"),
        (["predict", "small", "x.png", "--top", "0"], "zoo predict: invalid value for '--top': "),
        (["--bad"], "zoo --bad: no such option; valid: --help, "),
    ],
)
def test_usage_errors(run, words, said):
    """One line that says what is valid, and exit code 2."""
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert said in err


def test_help_and_exit_codes_stay(run):
    assert run("--version")[0] == run("list", "--help")[0] == 0
    code, out, err = run()
    assert (code, "Usage: zoo" in out + err) == (2, True)


# --- start-up ---------------------------------------------------------------------------------------------------------

HEAVY = "{'torch', 'lightning', 'torchmetrics', 'matplotlib', 'onnx', 'PIL', 'tensorboard'}"
SAY = f"import atexit, sys; atexit.register(lambda: print('heavy:', {HEAVY} & set(sys.modules), file=sys.stderr)); "
MAIN = SAY + "from zoo.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "arguments", "environment", "shows"),
    [
        (SAY + "import zoo; print(zoo.list_models(), zoo.list_weights(), zoo.Card, zoo.ZooError)", [], {}, "lenet5"),
        (MAIN, ["--help"], {}, "predict"),
        *[(MAIN, [name, "--help"], {}, f"Usage: zoo {name}") for name in COMMANDS],
        (MAIN, ["train", "--help"], {}, "the network"),
        (MAIN, ["list"], {}, "lenet5_1998"),
        (MAIN, [], {"COMP_WORDS": "zoo info le", "COMP_CWORD": "2", "_ZOO_COMPLETE": "complete_bash"}, "lenet5_1998"),
        (MAIN, [], {"COMP_WORDS": "zoo pre", "COMP_CWORD": "1", "_ZOO_COMPLETE": "complete_bash"}, "predict"),
    ],
)  # fmt: skip
def test_no_torch_where_none_is_needed(command, code, arguments, environment, shows):
    code = code.replace("main()", "sys.argv[0] = 'zoo'; main()")
    result = command("-c", code, *arguments, env=os.environ | environment)
    assert result.returncode == 0, result.stderr
    assert shows in result.stdout
    assert result.stderr.endswith("heavy: set()\n")


def test_own_module_from_the_installed_command(command, own):  # noqa: F811
    """A module in the working directory is found, as the console script must look for it itself; no file that lies
    there by chance stands in for a library; and to predict nothing of what training needs is imported."""
    (own / "json.py").write_text("raise SystemExit('the wrong json')")
    card = {**vars(make_card()), "model": {"_target_": "my_module.Mine", "num_classes": 10, "width": 5}}
    write_checkpoint(own / "mine.ckpt", zoo.create("mine", num_classes=10), card)
    Image.new("L", (28, 28)).save(own / "one.png")
    code = "import sys; sys.path.remove(''); " + MAIN.replace("'torch', ", "").replace("'PIL', ", "")
    result = command("-c", code, "predict", "mine.ckpt", "one.png", "--trust", "my_module", cwd=own)
    assert (result.returncode, result.stderr) == (0, "heavy: set()\n")
    assert result.stdout.startswith("one.png  ")


# --- slow -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_evaluate_all(command):
    """Every shipped weight is what its card says, on the real data."""
    result = command("-m", "zoo", "evaluate", "--all")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_the_wheel(tmp_path):
    """Installed from a wheel, outside the clone: configs, weights and embedded data travel along, data go to the
    user's cache, and no file of the clone is needed."""
    python, wheels, target = sys.executable, tmp_path / "wheels", tmp_path / "site"
    subprocess.run([python, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", wheels, REPO], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", "--target", target, wheel], check=True)
    here = tmp_path / "here"
    here.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("ZOO_DATA", "PYTHONPATH")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(target)}

    def call(*arguments: str) -> str:
        result = subprocess.run([python, *arguments], cwd=here, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert call("-c", "import zoo; print(zoo.__file__)").startswith(str(target))
    listed = call("-m", "zoo", "list")
    assert "lenet5_1998" in listed
    assert all(name in listed for name in zoo.list_weights())
    for data in ("mnist", "cifar10_small"):
        assert "accuracy" in call("-m", "zoo", "train", "debug=fast", f"data={data}", "name=run")
    prepared = sorted(path.name for path in (tmp_path / "cache/reference-zoo/prepared").iterdir())
    assert prepared == ["cifar10_small.safetensors", "mnist.safetensors"]
    assert not (here / "data").exists()
    checkpoint = str(next(here.glob("logs/run/*/checkpoints/last.ckpt")))
    for name in (checkpoint, *zoo.list_weights()):
        assert "True" in call("-c", f"import zoo; print(zoo.load({name!r}).card.parameters > 0)")
    example = str(next(here.glob("logs/run/*/example.png")))
    assert example in call("-m", "zoo", "predict", checkpoint, example)
