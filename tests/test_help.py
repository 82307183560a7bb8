"""``train.py --help``: one screen, and on request each value with its meaning; and what is said to wrong words."""

import pytest

from tests.test_pretrained import write_checkpoint
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.pretrained.loading import load
from zoo.pretrained.reading import read_weights
from zoo.run.explain import not_understood
from zoo.run.fit import value_of
from zoo.run.help import GROUPS, arguments_in, asked, files, values
from zoo.run.known import read_yaml, with_bases
from zoo.run.resume import find_resume, for_hydra


def test_one_screen(run_train):
    code, output = run_train("--help")
    assert code == 0
    assert len(output.splitlines()) <= 30
    assert max(map(len, output.splitlines())) <= 120
    for group in GROUPS:
        assert group in output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("--help", "model"),
            ["model=lenet5_1998", "LeNet-5 as published in 1998", "model.dropout", "a number, 0 to 1"],
        ),
        (("model=mlp", "--help=model.hidden"), ["[512,512]", "a list: a whole number each"]),
        (("--help", "data.augment"), ["data.augment.cutmix", "Yun et al. 2019", "true or false or alternate"]),
        (("--help", "experiment"), ["experiment=lenet5_mnist"]),
        (("data=image_folder", "--help", "data"), ["${zoo.count_classes:${data.root}}"]),  # reads no data
        (("-h", "seed"), ["of all random numbers"]),
    ],
    ids=str,
)
def test_parts(run_train, monkeypatch, words, expected):
    monkeypatch.setenv("COLUMNS", "200")
    code, output = run_train(*words)
    assert code == 0, output
    for text in expected:
        assert text in output


def test_help_for_an_own_model(run_train, tmp_path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text("# My first network\n_target_: torch.nn.Identity\n")
    assert "My first network" in run_train("--help", "model")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--help", "modle"), "did you mean model?"),
        (("--help", "model.dropuot"), "did you mean model.dropout?"),
        (("lr=0.1",), "lr: no such key; did you mean optimizer.lr?"),
        (("epochs=3",), "did you mean trainer.max_epochs?"),
        (("device=cuda",), "did you mean trainer.accelerator?"),
        (("model.lr=1",), "did you mean optimizer.lr?"),
        (("--lr", "0.1"), "--lr: settings are written without dashes: optimizer.lr=VALUE"),
        (("--learning-rate=0.1",), "optimizer.lr=0.1"),
        (("--model.dropout=0.1",), "model.dropout=0.1"),
        (("data.root=my photos [v2]",), "\"data.root='my photos [v2]'\""),
    ],
    ids=str,
)
def test_wrong_words(run_train, words, expected):
    code, output = run_train(*words)
    assert code == 1
    assert expected in output
    assert len(output.splitlines()) == 1


def test_a_model_of_ones_own_has_keys_too(run_train, tmp_path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text("_target_: torch.nn.Linear\nin_features: 3\n")
    code, output = run_train("model=mine", "model.in_featurs=8")
    assert code == 1
    assert "did you mean model.in_features?" in output


@pytest.mark.parametrize(
    ("override", "way"),
    [
        ("data.root=my photos", "\"data.root='my photos'\""),
        ("data.root=사진", "\"data.root='사진'\""),
        ("name=it's", "'name='\"'\"'it\\'\"'\"'s'\"'\"''"),
        ("init.skip=[head", "'init.skip=[head]'"),
    ],
)
def test_what_is_not_understood_is_said_in_the_form_that_works(override, way):
    assert not_understood(override).endswith(f": {way}")


def test_home(monkeypatch, tmp_path):
    """``~`` is the home folder wherever a path is named; a shell does not expand it after an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["init.weights=~/my nets/a.pt", "model.dropout=0.1"]
    assert for_hydra(words) == [f"init.weights='{tmp_path}/my nets/a.pt'", "model.dropout=0.1"]
    assert value_of("data.root", "~/photos") == f"{tmp_path}/photos"
    for read in (load, read_weights, find_resume):
        with pytest.raises(ZooError, match=r"no\.pt: (no such file|there is no such checkpoint)"):
            read("~/no.pt")
    write_checkpoint(tmp_path / "mine.ckpt")
    assert load("~/mine.ckpt").card.name == load(tmp_path / "mine.ckpt").card.name
    assert find_resume("~/mine.ckpt") == tmp_path / "mine.ckpt"


def test_asked():
    assert asked(["model=mlp"]) is None
    assert asked(["model=mlp", "--help"]) == (None, ["model=mlp"])
    assert asked(["--help", "model", "model=mlp"]) == ("model", ["model=mlp"])
    assert asked(["--help", "model=mlp"]) == (None, ["model=mlp"])
    assert asked(["-m", "--help=data.augment", "seed=1,2"]) == ("data.augment", ["seed=1,2"])


def test_arguments_in_a_docstring():
    args = "    a, b: the sizes of\n        things. More.\n    lr (float): step: e.g. 1 (default: 1)\n"
    text = f"A net.\n\nArgs:\n{args}\nRaises:\n    c: no"
    assert arguments_in(text) == {"a": "the sizes of things", "b": "the sizes of things", "lr": "step: e.g. 1"}


def below(node, place):
    """The dotted keys of all mappings at and below a place that are whole: not those that change another config."""
    if isinstance(node, dict):
        if "_target_" in node or place == "init":
            yield place
        for key, value in node.items():
            yield from below(value, f"{place}.{key}")


@pytest.mark.parametrize("group", sorted(set(GROUPS) - {"experiment", "debug"}))
def test_every_value_has_a_meaning(group):
    lacking = set()
    for path in files(group).values():
        config = {group: with_bases(read_yaml(path), [CONFIGS], read_yaml)}
        config[group].pop("defaults", None)  # choices that are tried as such
        for place in below(config[group], group):
            lacking |= {f"{path.stem}: {key}" for key, _, _, meaning in values(config, place) if not meaning}
    assert not lacking


def test_unknown_places_are_errors():
    with pytest.raises(ZooError, match="nothing is named nothing"):
        list(values({"model": {}}, "model.nothing"))
