"""A stranger's file runs, writes, removes and imports nothing: hostile values at every place of real checkpoints.

What is planted where stands in ``tests/plants.py``; what a file may say, in docs/security.md.
"""

import re
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from PIL import Image

import zoo
from tests.data_helpers import assert_fails
from tests.plants import LEAN, TARGETS, Watched, dotted, leaves, make_runs, mappings, plant, put, train_here
from zoo.config.foreign import is_file
from zoo.config.overrides import hydra_value
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.pretrained.evaluate import evaluate
from zoo.pretrained.loading import load
from zoo.run.averaging import EMA
from zoo.run.known import Known
from zoo.run.saving import Checkpoint
from zoo.run.states import safe_states
from zoo.run.stored import CHECKED, REBUILT, may_be_said, refusals, taken
from zoo.use.predict import predict_files

# The texts of a checkpoint's config that are taken whatever they say: they are shown, or compared with what is known.
WORDS = re.compile(
    r"(seed|compile|channels_last|test|select|resume|name|card\.\w+|init\.\w+)|callbacks\.samples\.prompts\.\d+"
)
PLACES = re.compile(r"callbacks\.\w+\.dirpath")  # not taken: this machine's own stand there
IGNORED = (("root",), ("tokenizer",))  # of a card's data: the first is said by the user, the second is in the card
QUICK = ("averaged", "text")  # with all that a default run has too
SHOWN = ("title", "published", "hardware", "note", "licence", "command")  # of a card


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    return make_runs(tmp_path_factory.mktemp("runs"), QUICK)


@pytest.fixture(scope="module")
def known() -> Known:
    return Known([CONFIGS])


@pytest.fixture
def watched(tmp_path, monkeypatch, toy_data, runs):
    """Makes the watched folder of a kind of run, and enters it."""

    def make(kind: str) -> Watched:
        place = Watched(tmp_path, runs[kind])
        place.enter(monkeypatch)
        return place

    return make


def hostile(place: Watched) -> list[Any]:
    return [*place.texts(), *place.nodes()]


# --- what is taken of a checkpoint's config --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", QUICK)
def test_no_leaf_of_a_config_takes_a_path_or_a_class(watched, known, kind):
    """Each leaf is refused with it, or is replaced by this machine's own, or is a word that is only shown."""
    place = watched(kind)
    config = place.content()["config"]
    others = [at for at in leaves(config) if at[-1] != "_target_"]
    assert len(others) > 100
    assert not list(refusals(config, known))
    for value in hostile(place):
        refused = refused_keys(config, others, value, known)
        rest = {dotted(at) for at in others if not any(under(key, dotted(at)) for key in refused)}
        if isinstance(value, str) and "${" not in value:
            assert all(WORDS.fullmatch(key) or PLACES.fullmatch(key) for key in rest), (value, rest)
        else:
            assert all(WORDS.fullmatch(key) for key in rest) if not isinstance(value, str) else not rest, (value, rest)


def refused_keys(config: dict[str, Any], places: list[tuple], value: Any, known: Known) -> set[str]:
    """The keys that are refused where a value stands at all of these places at once."""
    bad = deepcopy(config)
    for at in places:
        put(bad, at, deepcopy(value))
    return {refusal.key for refusal in refusals(bad, known)}


def under(key: str, place: str) -> bool:
    return key == place or key.startswith(f"{place}.")


@pytest.mark.parametrize("kind", QUICK)
def test_no_class_but_those_of_the_configs(watched, known, kind):
    """Neither another class, nor one of the zoo's in a group that it does not belong to, nor a special argument."""
    place = watched(kind)
    config = place.content()["config"]
    classes = [at for at in leaves(config) if at[-1] == "_target_"]
    assert len(classes) > 15
    for target in TARGETS:
        bad = deepcopy(config)
        for at in classes:
            put(bad, at, target)
        found = [refusal for refusal in refusals(bad, known) if refusal.key.endswith("_target_")]
        assert {refusal.key for refusal in found} == set(map(dotted, classes)), target
        assert not any(map(may_be_said, found)) or target.startswith("evil"), target
    others = [at for at in classes if at[0] != "data"]
    assert refused_keys(config, others, "zoo.data.images.ImageData", known) >= set(map(dotted, others))
    groups = [at for at in mappings(config) if at and at[0] in REBUILT + CHECKED]
    for name, value in {"_args_": ["x"], "_recursive_": False, "_convert_": "object", "_mode_": "call"}.items():
        extra = [(*at, name) for at in groups]
        refused = refused_keys(config, extra, value, known)
        assert all(any(under(key, dotted(at)) for key in refused) for at in extra), name
    for key in ("plugins", "callbacks", "logger", "default_root_dir", "barebones"):
        for value in (None, "../made", ["x"], {"_target_": "evil.Model"}):
            try:
                assert key not in taken(plant(config, ("trainer", key), value), known, [], "it")["trainer"]
            except ZooError:
                continue


@pytest.mark.parametrize(
    "callback",
    [
        {"_target_": "lightning.pytorch.callbacks.OnExceptionCheckpoint", "dirpath": "x", "filename": "../made"},
        {"_target_": "lightning.pytorch.callbacks.SpikeDetection", "exclude_batches_path": "../made"},
        {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "filename": "/made"},
        {"_target_": "zoo.run.saving.Checkpoint", "filename": "/made"},
        {"_target_": "zoo.run.saving.Checkpoint", "filename": "{a}/../../made"},
        {"_target_": "zoo.run.saving.Checkpoint", "exclude_batches_path": "made"},
        {"_target_": "zoo.data.images.ImageData", "name": "mnist"},
        {"_target_": "zoo.models.mlp.MLP"},
        {"_target_": "zoo.run.checkpoint.Describe"},
    ],
)
def test_a_callback_more(watched, known, callback):
    """Of callbacks there are those of the configs, and they name no files but by the configs."""
    config = watched("averaged").content()["config"]
    assert_fails(lambda: taken(plant(config, ("callbacks", "more"), callback), known, [], "it"), "callbacks.more.")


@pytest.mark.parametrize("logger", ["/made", "$VICTIM", "../made", "a/b", "~"])
def test_the_name_of_a_logger_and_of_a_run(watched, known, logger):
    config = watched("averaged").content()["config"]
    for key in ("name", "version", "sub_dir", "prefix"):
        assert_fails(
            lambda key=key: taken(plant(config, ("logger", "tensorboard", key), logger), known, [], "it"),
            f"logger.tensorboard.{key}=",
        )
    assert_fails(lambda: taken(plant(config, ("name",), logger), known, [], "it"), "name=", "no / ")


# --- resuming ---------------------------------------------------------------------------------------------------------


def resume(place: Watched, content: dict[str, Any], capfd, *overrides: str) -> tuple[int, str]:
    """Go on with a planted checkpoint in this process, and see that nothing else was touched."""
    place.renew()
    place.write(content)
    capfd.readouterr()
    code = train_here("resume=../run", *overrides)
    output = "".join(capfd.readouterr())
    place.check(output)
    return code, output


def longer(place: Watched) -> dict[str, Any]:
    """The run's checkpoint, with an epoch left to train."""
    return plant(place.content(), ("config", "trainer", "max_epochs"), 2)


def test_a_checkpoint_removes_no_folder(watched, capfd):
    """Lightning removes the best of before, whatever its state names, through .. too. Here it is the run's own file."""
    place = watched("averaged")
    content = longer(place)
    folder = str(place.run / "checkpoints")
    for key, state in content["callbacks"].items():
        if key.startswith("Checkpoint"):
            path = f"{folder}{'/..' * 30}{place.victim}"
            state |= dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), path)
            state |= {"dirpath": folder, "best_k_models": {path: torch.tensor(0.0)}}
            state |= dict.fromkeys(("best_model_score", "kth_value"), torch.tensor(0.0))
    for case in (str(place.victim), f"{folder}/../../outside/victim"):
        changed = deepcopy(content)
        for state in changed["callbacks"].values():
            if "best_model_path" in state:
                state |= dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), case)
                state["best_k_models"] = {case: torch.tensor(0.0)}
        resume(place, changed, capfd)
    resume(place, content, capfd)


@pytest.mark.parametrize("kind", QUICK)
def test_what_is_taken_leads_nowhere(watched, capfd, kind):
    """Runs with a hostile text at all places at once where one is taken, or is replaced: the folder is as it was."""
    place = watched(kind)
    content = longer(place)
    count = 0
    for text in place.texts()[:4:3] if kind != "text" else place.texts()[1:2]:
        bad = deepcopy(content)
        for at in leaves(content["config"]):
            if PLACES.fullmatch(dotted(at)) or re.fullmatch(
                r"init\.(weights|source)|card\.(title|published|metric|command)|callbacks\.samples\.prompts\.\d",
                dotted(at),
            ):
                put(bad["config"], at, text)
                count += 1
        for state in bad["callbacks"].values():
            for key in state.keys() & {"dirpath", "monitor"}:
                state[key] = text
        for key in ("title", "name", "published", "note"):
            bad["card"][key] = text
        code, output = resume(place, bad, capfd)
        assert code == 0, output
    assert count


@pytest.mark.parametrize("part", [slice(None, None, 4), pytest.param(slice(None), marks=pytest.mark.slow)], ids=str)
def test_what_is_refused_is_refused_before_anything_is_made(watched, capfd, part):
    """One of each kind, by the whole command: a line, and no file more in the run's folder."""
    place = watched("averaged")
    content = longer(place)
    victim = str(place.victim)
    cases = {
        ("config", "callbacks", "more"): {"_target_": "os.mkdir", "path": f"{victim}/made"},
        ("config", "callbacks", "last", "filename"): f"{victim}/made",
        ("config", "logger", "tensorboard", "name"): "$VICTIM/made",
        ("config", "model", "_target_"): "evil.Model",
        ("config", "optimizer", "_target_"): "os.system",
        ("config", "data", "root"): "../outside/victim",
        ("config", "data", "name"): "../../outside/victim",
        ("config", "seed"): "${oc.env:VICTIM}",
        ("config", "name"): "../made",
        ("config", "trainer", "plugins"): [{"_target_": "evil.Model"}],
        ("callbacks",): {"Timer": {"time_elapsed": victim}},
        ("callbacks", "Timer", "time_elapsed", victim): 1,
        ("config",): [1],
        ("config", "callbacks"): victim,
    }
    for at, value in list(cases.items())[part]:
        code, output = resume(place, plant(content, at, value), capfd)
        *before, line = output.splitlines()
        assert (code, line[:6]) == (1, "error:"), (at, output)
        assert not before or at[0] == "callbacks", output  # which are read by Lightning's trainer
        assert not (place.run / "metrics.json").exists()


@pytest.mark.parametrize("kind", QUICK)
def test_no_state_of_a_callback_names_a_file(watched, kind):
    """Each leaf of each state: a text is refused, or its file is in the run's own folder."""
    place = watched(kind)
    folder = place.run / "checkpoints"
    callbacks = [
        Timer(), EarlyStopping("val/loss"), Checkpoint(folder, "best", "val/loss"), Checkpoint(folder, "last"),
        ModelCheckpoint(folder, "other"), EMA(),
    ]  # fmt: skip
    stored = place.content()["callbacks"]
    assert stored.keys() - {c.state_key for c in callbacks} == set()
    assert safe_states(stored, callbacks).keys() == stored.keys()
    shared = {"monitor", "dirpath"}  # replaced by the callback's own
    for at in leaves(stored):
        for value in [*place.texts(), *place.nodes(), ["../x"], {"../x": 1}, object(), {"a": [{"b": b"x"}]}]:
            try:
                found = safe_states(plant(stored, at, value), callbacks)
            except ZooError:
                continue
            for inner in leaves(found):
                text = str(found_at(found, inner))
                if not torch.is_tensor(found_at(found, inner)) and re.search(r"[/\\~$]|\.\.", text):
                    assert at[-1] in shared or Path(text).parent == folder or text in (str(folder), "val/loss"), text
            for state in found.values():
                for path in state.get("best_k_models", ()):
                    assert Path(path).parent == folder
    place.check(kind)


def found_at(node: Any, at: tuple) -> Any:
    for key in at:
        node = node[key]
    return node


def test_a_path_is_said_again(watched, capfd):
    """What the message proposes goes on with the run, and so does what a stopped run prints."""
    text = watched("averaged").here / "it's my text.txt"
    text.write_text("to be or not to be, that is the question\n" * 200)
    overrides = (
        "model=rnn",
        "model.hidden=4",
        "data=text_file",
        "task=language",
        f"data.file={hydra_value(text.name)}",
    )
    assert train_here(*LEAN, *overrides, "data.val_size=null", "hydra.run.dir=mine") == 0, capfd.readouterr()
    capfd.readouterr()
    assert train_here("resume=mine", "trainer.max_epochs=2") == 1
    output = "".join(capfd.readouterr())
    assert "data.file=it's my text.txt (a path)" in output
    again = shlex.split(output.partition("say it again: ")[2])
    assert train_here("resume=mine", "trainer.max_epochs=2", *again) == 0, capfd.readouterr()


# --- cards: load, evaluate, predict, sample ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", QUICK)
def test_no_leaf_of_a_card_leads_elsewhere(watched, kind):
    """Model, objective, data and preprocessing refuse it in a line, before a folder is made or a module imported."""
    place = watched(kind)
    content = place.content()
    values = hostile(place)
    count = 0
    for part in ("model", "task", "data", "preprocess"):
        for at in leaves(content["card"][part]):
            for value in {0: TARGETS[count % 3 :: 3], 1: values[count % 7 :: 7]}[at[-1] != "_target_"]:
                path = place.write(plant(content, ("card", part, *at), value))
                if at in IGNORED:
                    evaluate(path)
                else:
                    assert_fails(lambda path=path: evaluate(path))
                place.check((part, at, value))
            count += 1
    assert count > 35


@pytest.mark.parametrize("kind", QUICK)
def test_what_a_card_shows_is_not_opened(watched, kind):
    place = watched(kind)
    Image.new("L", (28, 28)).save(place.run / "digit.png")
    for text in place.texts()[::4]:
        content = place.content()
        content["card"] |= dict.fromkeys(SHOWN, text)
        content["card"] |= {"versions": {text: text}, "metrics": {text: 1.0}, "sha256": text}
        if kind != "text":
            content["card"]["classes"] = [text] * 10
        path = place.write(content)
        _, measured, off = evaluate(path)
        assert measured
        assert set(off) <= {text}
        if kind != "text":
            ((result,), errors) = predict_files(path, [place.run / "digit.png"])
            assert result["predictions"][0]["class"] == text
            assert not errors
        place.check(text)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../outside/victim"},
        {"name": "/etc"},
        {"_target_": "zoo.data.text.TextData", "file": "/etc/passwd"},
        {"_target_": "zoo.data.text.TextData", "tokenizer": "../outside/victim/best.ckpt"},
        {"_target_": "zoo.data.folder.Folder", "root": "../outside/victim"},
    ],
)
def test_a_card_names_no_place_of_data(watched, change):
    place = watched("averaged")
    content = place.content()
    content["card"]["data"] |= change
    path = place.write(content)
    assert_fails(lambda: evaluate(path))
    load(path)  # which needs no data
    place.check(change)


def test_a_path_that_its_user_knows(watched):
    """--trust data.file=… takes the user's own, and no other key's."""
    place = watched("text")
    (place.here / "my.txt").write_text("to be or not to be\n" * 400)
    content = place.content()
    content["card"]["data"] |= {"name": None, "file": "/etc/passwd"}
    path = place.write(content)
    assert_fails(lambda: evaluate(path), "--trust 'data.file=/etc/passwd'")
    assert_fails(lambda: evaluate(path, trust=["data.tokenizer=my.txt"]), "data.file")


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("data.name", "mnist", False), ("data.name", "a/b", True), ("data.root", "mine", True),
        ("model.weights", "lenet5_mnist", False), ("model.weights", "mine.ckpt", True),
        ("init.weights", "torchvision:resnet18", False), ("init.weights", "torchvision:../x", True),
        ("task.judge", "inception", False), ("task.judge", "judge.ckpt", True), ("task.monitor", "val/loss", False),
        ("task.monitor", "val/../x", True), ("model.hidden.0", "~", True), ("model.cell", "lstm", False),
        ("data.files.0", "x", True), ("task.a", "x\x7f", True),
    ],
)  # fmt: skip
def test_which_values_are_files(key, value, answer):
    assert is_file(key, value) is answer


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "a\\b", "$HOME", "~", "..", ".", "", "a\x00", "a\n", "a\x1b[2J"])
def test_names_that_become_part_of_a_path(watched, capfd, name):
    """From the command line too: a run's name, and that of a weight."""
    from zoo.run.publish import publish

    place = watched("averaged")
    quoted = "name='" + name.replace("\\", "\\\\") + "'"
    assert train_here("debug=fast", "model=linear", quoted) == 1
    assert "name" in capfd.readouterr().err
    assert_fails(lambda: publish(name, [place.run]))
    place.check(name)


def test_a_config_of_a_stranger_is_a_model_of_the_zoo(watched):
    """zoo.create takes the user's own configs, and a file is none."""
    place = watched("averaged")
    assert_fails(lambda: zoo.create("../outside/victim"))
    assert_fails(lambda: zoo.create("lenet5", weights="../outside/victim"))
    place.check("create")
