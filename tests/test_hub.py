"""Models on a hub: published with its own client to a stand-in, and loaded by name; what strangers put there."""

import hashlib
import importlib
import json
import sys

import pytest
import torch
import yaml
from safetensors.torch import save

import zoo
from tests.conftest import REPO
from tests.data_helpers import assert_fails
from tests.hub import hub as stand_in
from tests.test_fetch import nobody
from tests.test_pretrained import LENET, make_card, make_model, ship, write_checkpoint
from zoo.paths import cache_root
from zoo.pretrained import push as pushing
from zoo.pretrained.card import Card
from zoo.remote import download


@pytest.fixture
def hub(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with stand_in() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_stand_in")
        yield server


def published(hub, **changes) -> str:
    """Put the small LeNet into the repository a/small as its next commit; the card's fields may be changed."""
    content = save(dict(make_model().state_dict()))
    card = {**vars(make_card(sha256=hashlib.sha256(content).hexdigest(), size=len(content))), **changes}
    return hub.commit("a/small", {"model.safetensors": content, "model.json": json.dumps(card).encode()})


def test_round_trip(hub, tmp_path, monkeypatch):
    """What is pushed with the hub's own client loads by name on another machine, and gives the same outputs."""
    pytest.importorskip("huggingface_hub")
    ship(tmp_path / "weights", monkeypatch)
    address = pushing.push("small", "someone/small-net")
    (commit,) = hub.repositories["someone/small-net"]
    assert commit in address
    assert "library_name: reference-zoo" in hub.headers[0]
    assert sorted(hub.repositories["someone/small-net"][commit]) == ["README.md", "model.json", "model.safetensors"]
    model, x = zoo.load("hf:someone/small-net"), torch.randn(2, 1, 28, 28)
    assert torch.equal(model(x), zoo.load("small")(x))
    assert torch.equal(zoo.create("lenet5", weights="hf:someone/small-net")(x), model(x))
    pushing.push("small", "someone/secret", private=True)
    assert (hub.visibility["someone/secret"], "private" in hub.visibility["someone/small-net"]) == ("private", False)
    assert (model.card.name, model.card.metrics) == (zoo.load("small").card.name, {"accuracy": 0.5})


def test_push_errors(hub, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    ship(tmp_path / "weights", monkeypatch)
    for name in ("small", "a/b/c", "../b", "a/b@main", "a/.."):
        assert_fails(lambda name=name: pushing.push("small", name), "is no name of a repository; write owner/name")
    monkeypatch.setenv("HF_ENDPOINT", nobody())
    with pytest.raises(zoo.ZooError, match=r"did not take a/b: .*are you logged in"):
        pushing.push("small", "a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert_fails(lambda: pushing.push("small", "a/b"), "pip install 'reference-zoo[hub]'", "--folder")


def test_the_files_of_a_repository(tmp_path):
    """The page's header is what the hub reads; the card has no licence that nobody chose, and no user's folders."""
    card = vars(make_card(command="python train.py data.root=/home/ada/photos 'init.weights=~/x/y.ckpt' model=lenet5"))
    card["data"] = {**card["data"], "name": "mnist", "root": "/home/ada/photos"}
    checkpoint = write_checkpoint(tmp_path / "last.ckpt", card=card)
    files = pushing.lay_out(checkpoint, tmp_path / "out")
    assert [file.name for file in files] == ["model.safetensors", "model.json", "README.md"]
    told = "".join(file.read_text() for file in files[1:])
    assert "ada" not in told
    assert "data.root=photos init.weights=y.ckpt model=lenet5" in told
    header = yaml.safe_load(files[2].read_text().split("---\n")[1])
    assert "license" not in header
    assert (header["library_name"], header["pipeline_tag"]) == ("reference-zoo", "image-classification")
    assert header["datasets"] == ["ylecun/mnist"]
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.5, "name": "accuracy"}]
    assert result["dataset"]["type"] == "ylecun/mnist"
    model = zoo.load(tmp_path / "out" / "model.safetensors")
    assert torch.equal(model(torch.ones(1, 1, 28, 28)), zoo.load(checkpoint)(torch.ones(1, 1, 28, 28)))
    pushing.lay_out(checkpoint, tmp_path / "out", licence="CC-BY-4.0")
    assert yaml.safe_load(files[2].read_text().split("---\n")[1])["license"] == "cc-by-4.0"
    assert Card.read(files[1]).licence == "CC-BY-4.0"
    (tmp_path / "file").write_text("")
    assert_fails(lambda: pushing.lay_out(checkpoint, tmp_path / "file" / "out"), "cannot be written")


@pytest.mark.parametrize("name", zoo.list_weights())
def test_every_shipped_card_has_a_page(name):
    card = Card.read(zoo.paths.WEIGHTS / f"{name}.json")
    page = pushing.page(card, "a/b")
    header = yaml.safe_load(page.split("---\n")[1])
    assert header["license"] == "mit"
    assert header["pipeline_tag"]
    assert header["model-index"][0]["results"][0]["metrics"]
    hub = pytest.importorskip("huggingface_hub")  # its own reader finds all figures
    assert {result.metric_name: result.metric_value for result in hub.ModelCard(page).data.eval_results} == {
        name.replace("_", " "): value for name, value in card.metrics.items()
    }


def test_a_revision_is_pinned_and_a_branch_moves(hub, monkeypatch, capfd):
    first = published(hub)
    zoo.load("hf:a/small")
    second = published(hub, title="A second net")
    assert first != second
    assert zoo.load("hf:a/small").card.title == "A second net"
    hub.asked.clear()
    assert zoo.load(f"hf:a/small@{first}").card.title == "A small net"
    assert hub.asked == []  # it was here, and a commit cannot change
    monkeypatch.setenv("HF_ENDPOINT", nobody())
    assert zoo.load("hf:a/small").card.title == "A second net"
    assert "cannot be reached" in capfd.readouterr().err
    assert_fails(lambda: zoo.load("hf:a/other"), "hf:a/other could not be fetched from", "refused")


def test_a_cut_off_repository_is_resumed(hub):
    published(hub)
    hub.cuts = [10**6, 10**6, 1000]
    zoo.load("hf:a/small")
    assert "bytes=1000-" in [asked for _, asked in hub.asked]


def test_what_is_not_there(hub):
    assert_fails(lambda: zoo.load("hf:a/none"), "there is no public model a/none with a revision main")
    published(hub)
    assert_fails(lambda: zoo.load("hf:a/small@v2"), "no public model a/small with a revision v2")
    hub.commit("a/small", {"model.safetensors": b"x"})
    assert_fails(lambda: zoo.load("hf:a/small"), "a/small has no model.json, which zoo push writes")
    for source in ("hf:small", "hf:../../etc/passwd", "hf:a/..", "hf:a/b@../x", "hf:a/b/c", "hf:a/b@x y"):
        assert_fails(lambda source=source: zoo.load(source), "is no model on the hub; write hf:owner/name")
    assert not [path for path in cache_root().rglob("*") if ".." in str(path)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"_target_": "os.system", "command": "touch ran"}}, "asks for os.system"),
        ({"model": {**LENET, "_target_": "my_module.Mine"}}, "my_module"),
        ({"data": {"_target_": "zoo.data.text.TextData", "file": "/etc/passwd"}}, None),
        ({"preprocess": {"_target_": "zoo.data.preprocess.Preprocess", "path": "/etc/passwd"}}, "path"),
        ({"model": {**LENET, "hidden": [10**15]}}, "not of the model that its card names"),
        ({"sha256": "0" * 64}, "its sha256 differs), and was removed"),
        ({"sha256": "../../x"}, "it has no sha256"),
        ({"size": 10}, "at most 10 are allowed"),
        ({"name": "../evil"}, "is not valid: a name has no /"),
    ],
)
def test_a_stranger_s_repository(hub, tmp_path, monkeypatch, changes, message):
    """Numbers and choices are taken from it, and no code, class or path."""
    monkeypatch.chdir(tmp_path)
    published(hub, **changes)
    if message is None:  # loading builds no data; evaluating would, and refuses
        from zoo.pretrained.evaluate import evaluate

        zoo.load("hf:a/small")
        assert_fails(lambda: evaluate("hf:a/small"), "files may not give paths")
    else:
        assert_fails(lambda: zoo.load("hf:a/small"), message)
    assert list(tmp_path.iterdir()) == []


def test_torch_hub(monkeypatch):
    """``torch.hub`` finds the same weights and models in a clone, and lists them."""
    monkeypatch.syspath_prepend(REPO)
    model = torch.hub.load(str(REPO), "lenet5_mnist", source="local")
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(x), zoo.load("lenet5_mnist")(x))
    untrained = torch.hub.load(str(REPO), "resnet20", source="local", num_classes=7)
    assert untrained(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    hubconf = importlib.import_module("hubconf")
    assert {*zoo.list_models(), *zoo.list_weights()} <= {name for name in dir(hubconf) if callable(vars(hubconf)[name])}
    assert "LeNet-5 on MNIST: 99.44%" in hubconf.lenet5_mnist.__doc__
    for name in hubconf.dependencies:
        importlib.import_module(name)
