"""Links in a run's folder that a stranger has packed: what a resumed run writes stays in that folder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.plants import LEAN, Watched, make_runs, plant, train_here
from zoo.pretrained.reading import read_checkpoint
from zoo.run import resolvers
from zoo.run.atomic import write_atomically

PART = ".last.ckpt.PID"  # what this process writes before it is moved into place


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of one epoch, whose checkpoint says that it has two."""
    run = make_runs(tmp_path_factory.mktemp("runs"), ["averaged"])["averaged"]
    path = run / "checkpoints" / "last.ckpt"
    torch.save(plant(read_checkpoint(path), ("config", "trainer", "max_epochs"), 2), path)
    shutil.copy(path, run / "start.ckpt")
    return run


@pytest.fixture
def place(tmp_path, monkeypatch, toy_data, finished) -> Watched:
    found = Watched(tmp_path, finished)
    shutil.copy(finished / "start.ckpt", found.victim / "last.ckpt")
    found.before = found.tree()
    found.enter(monkeypatch)
    return found


def link(place: Watched, name: str, target: str) -> None:
    """Put a link in the run, in the place of what is there."""
    path = place.run / name
    path.parent.mkdir(exist_ok=True)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(target)


OUT, DEEP = "../outside/victim", "../../outside/victim"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("checkpoints", OUT),
        ("checkpoints", "../outside/made"),
        ("checkpoints/best.ckpt", f"{DEEP}/best.ckpt"),
        ("checkpoints/best.ckpt", f"{DEEP}/made.ckpt"),
        ("checkpoints/last.ckpt", f"{DEEP}/last.ckpt"),
        (f"checkpoints/{PART}", f"{DEEP}/best.ckpt"),
        (f"checkpoints/{PART}", f"{DEEP}/made"),
        (".lock", f"{OUT}/best.ckpt"),
        (".lock", f"{OUT}/made"),
        ("metrics.json", f"{OUT}/best.ckpt"),
        ("metrics.json", f"{OUT}/made"),
        (".metrics.json.PID", f"{OUT}/best.ckpt"),
        (".hydra", OUT),
        (".hydra-now", OUT),
        (".hydra-now/config.yaml", f"{DEEP}/best.ckpt"),
        ("events.out.tfevents.1.x", f"{OUT}/best.ckpt"),
        ("example.png", f"{OUT}/best.ckpt"),
        ("example.png", f"{OUT}/made.png"),
    ],
)
def test_a_link_that_leads_outside(place, monkeypatch, capfd, name, target):
    """A line, before anything is written; not even Hydra's note of the config."""
    monkeypatch.setattr(resolvers, "subdir", lambda resume: ".hydra-now")  # a stranger plants one for each second
    if name.endswith(PART):  # else what killed runs have left is removed first
        (place.run / ".lock").unlink(missing_ok=True)
        (place.run / ".lock").mkdir()
    name = name.replace("PID", str(os.getpid()))
    link(place, name, target)
    before = sorted(path.name for path in place.run.iterdir())
    code = train_here("resume=../run" if name == "checkpoints/last.ckpt" else "resume=../run/start.ckpt")
    output = "".join(capfd.readouterr())
    place.check(output)
    assert code == 1
    assert output.count("\n") == 1
    assert f"{name} leads to " in output
    assert sorted(path.name for path in place.run.iterdir()) == before


def test_the_newest_run_is_no_better(place, capfd):
    """resume=last, of a run that was put under logs/."""
    link(place, "checkpoints", OUT)
    shutil.copytree(place.run, place.here / "logs" / "mine", symlinks=True)
    (place.here / "logs" / "mine" / "checkpoints").unlink()
    (place.here / "logs" / "mine" / "checkpoints").symlink_to(place.victim)
    place.before = place.tree()
    assert train_here("resume=last") == 1
    output = "".join(capfd.readouterr())
    place.check(output)
    assert "mine/checkpoints leads to " in output


@pytest.mark.parametrize("key", ["name", "version"])
def test_where_the_configs_here_write(place, capfd, key):
    """Places of the user's own configs, too, are places in the run."""
    (place.here / "configs" / "logger").mkdir(parents=True)
    lines = "_target_: lightning.pytorch.loggers.CSVLogger", "save_dir: ${hydra:runtime.output_dir}", f"{key}: curves"
    text = "mine:\n" + "".join(f"  {line}\n" for line in lines)
    (place.here / "configs" / "logger" / "rows.yaml").write_text(text)
    more = ("model=linear", "logger=rows", "hydra.run.dir=../run")
    shutil.rmtree(place.run)
    assert train_here(*LEAN, *more) == 0, capfd.readouterr()
    place.before = place.tree()
    (found,) = place.run.rglob("curves")
    shutil.rmtree(found)
    found.symlink_to(place.victim)
    capfd.readouterr()
    again = "++logger.mine._target_=lightning.pytorch.loggers.CSVLogger", f"++logger.mine.save_dir={place.run}"
    assert train_here("resume=../run", "trainer.max_epochs=2", *again) == 1
    output = "".join(capfd.readouterr())
    place.check(output)
    assert "/curves" in output.partition(" leads to ")[0]


def test_a_folder_whose_name_is_a_variable(place, capfd, monkeypatch):
    """Neither TensorBoard's writer nor Hydra puts its value in its place."""
    monkeypatch.setenv("HIDDEN", "shown")
    for name, code in (("$HIDDEN", 0), ("${HIDDEN}", 1), ("${oc.env:HIDDEN}", 1)):
        folder = place.folder / name
        shutil.copytree(place.run, folder)
        place.before = place.tree()
        monkeypatch.chdir(folder)
        capfd.readouterr()
        assert train_here("resume=checkpoints/last.ckpt") == code
        output = "".join(capfd.readouterr())
        assert "shown" not in output
        assert [path.name for path in place.folder.rglob("*shown*")] == []


def test_a_part_that_is_a_link_is_not_followed(place):
    path = place.run / "x.ckpt"
    path.with_name(f".x.ckpt.{os.getpid()}").symlink_to(place.victim / "best.ckpt")
    write_atomically(b"new", path)
    assert path.read_bytes() == b"new"
    place.check("a part")


def linked_run(place: Watched) -> str:
    (place.run.parent / "named").symlink_to("run")
    return "../named"


def linked_file(place: Watched) -> str:
    (place.run.parent / "named.ckpt").symlink_to("run/checkpoints/last.ckpt")
    return "../named.ckpt"


def linked_best(place: Watched) -> str:
    link(place, "checkpoints/best.ckpt", "last.ckpt")
    return "../run"


def linked_folder(place: Watched) -> str:
    (place.run / "checkpoints").rename(place.run / "store")
    (place.run / "checkpoints").symlink_to("store")
    return "../run"


def other_link(place: Watched) -> str:
    """What the run does not write to may lead anywhere."""
    (place.run / "photos").symlink_to(OUT)
    (place.run / "python").symlink_to("/usr/bin/env")
    return "../run"


def from_within(place: Watched) -> str:
    os.chdir(place.run / "checkpoints")
    return "last.ckpt"


@pytest.mark.parametrize("make", [linked_run, linked_file, linked_best, linked_folder, other_link, from_within])
def test_a_link_that_stays_inside_or_that_the_user_names(place, capfd, make: Callable[[Watched], str]):
    named = make(place)
    code = train_here(f"resume={named}")
    output = "".join(capfd.readouterr())
    assert code == 0, output
    for path in place.folder.glob("named*"):
        path.unlink()
    place.check(output)
    assert (place.run / "metrics.json").is_file()
    assert read_checkpoint(place.run / "checkpoints" / "last.ckpt")["epoch"] == 1
