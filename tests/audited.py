"""The complete planting, as a program: ``python -m tests.audited FOLDER KIND SEED [SHARE]``, in an hour.

With a share below 1 it takes so many of the places, which the seed says.

It plants hostile values in a real checkpoint, one at a time, goes on with it, evaluates, predicts, samples, exports and
shows it, and prints as JSON how many cases there were and what was done to anything but the run: see ``tests.audit``.
"""

import contextlib
import io
import json
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import zoo.cli
from tests import plants
from tests.audit import Audit
from tests.conftest import REPO, patch_toys
from tests.plants import TARGETS, Watched, dotted, leaves, make_runs, plant, train_here
from zoo.terminal import CONTROLS

HIDDEN = "what-an-environment-variable-holds"
# What is planted, by the command; of a card what all commands read, and of the rest what a resumed run reads.
PARTS = {
    "resume": ("config", "callbacks", "card", "loops", "optimizer_states", "lr_schedulers", "random", "state_dict"),
    "evaluate": ("card",), "predict": ("card",), "sample": ("card",), "info": ("card",), "export": ("card",),
}  # fmt: skip
CANNOT = {"predict": ("text", "generator"), "sample": ("averaged",)}


def commands(place: Watched, path: Path, kind: str) -> dict[str, list[str]]:
    """The words of each command on a file; what they write is in the run's folder."""
    Image.new("L", (28, 28)).save(place.run / "digit.png")
    more = ["--length", "5"] if kind == "text" else ["-n", "1", "--out", str(place.run / "out.png")]
    part = ["--part", "decoder"] if kind == "generator" else []
    return {
        "evaluate": ["evaluate", str(path)],
        "predict": ["predict", str(path), str(place.run / "digit.png")],
        "sample": ["sample", str(path), *more],
        "info": ["info", str(path)],
        "export": ["export", str(path), "--format", "torch_export", "--output", str(place.run / "out.pt2"), *part],
    }


def call(words: list[str]) -> tuple[int, str]:
    """A command of ``zoo`` in this process: its exit code, and all that it prints."""
    result = CliRunner().invoke(zoo.cli.app, words)
    return result.exit_code, result.output + ("" if result.exit_code == 0 else zoo.cli.one_line(result.exception))


def resume(place: Watched) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = train_here("resume=../run")
    return code, said.getvalue()


def cases(content: dict[str, Any], command: str, place: Watched, seed: int, share: float) -> Iterator[tuple]:
    """Each leaf of the parts that a command reads, with the next of the hostile values."""
    values = [*place.texts(), *place.nodes(), "${oc.env:HIDDEN}", "\x1b]0;owned\x07", "${oc.decode:${oc.env:HIDDEN}}"]
    at = [(part, *leaf) for part in PARTS[command] if part in content for leaf in leaves(content[part])]
    random.Random(seed).shuffle(at)
    for number, leaf in enumerate(at[: round(len(at) * share)]):
        choices = TARGETS if leaf[-1] == "_target_" else values
        yield leaf, choices[(number + seed) % len(choices)]


def attempt(place: Watched, command: str, kind: str, content: dict[str, Any], at: tuple, value: Any) -> str | None:
    """Plant a value and run a command; what is wrong with what it printed, if something is."""
    place.renew()
    path = place.write(plant(content, at, value))
    if command == "resume":
        code, output = resume(place)
    else:
        code, output = call(commands(place, path, kind)[command])
    if HIDDEN in output:
        return "a variable is shown"
    # a text goes into a pipe as it is; what a terminal gets is in the tests of zoo.terminal
    if command != "sample" and CONTROLS.search(re.sub(r"[\n\r]", "", output)):
        return f"a control character is shown: {output!r}"
    if code not in (0, 1):
        return f"exit code {code}: {output}"
    if "Traceback" in output:
        return output
    return None


def main(folder: Path, kind: str, seed: int, share: float) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    (folder / "runs").mkdir()
    run = make_runs(folder / "runs", [kind])[kind]
    place = Watched(folder / "watched", run)
    place.before = place.tree()
    tried, touched = {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch_toys(patch.setattr)
        place.enter(patch)
        patch.setenv("HIDDEN", HIDDEN)
        allowed = [place.run, Path(os.environ["TMPDIR"]), Path(os.environ["XDG_CACHE_HOME"])]
        audit = Audit(allowed, place.folder / "outside", [REPO / "zoo", REPO / "tests"])
        content = plant(place.content(), ("config", "trainer", "max_epochs"), 2)
        place.renew()
        for command in PARTS:
            if kind in CANNOT.get(command, ()):
                continue
            place.renew()
            path = place.write(content)  # the harmless one, which must run
            code, output = resume(place) if command == "resume" else call(commands(place, path, kind)[command])
            assert code == 0, (command, output)
            tried[command] = 0
            for at, value in cases(content, command, place, seed, share):
                tried[command] += 1
                audit.found, audit.on = [], True
                wrong = attempt(place, command, kind, content, at, value)
                audit.on = False
                if wrong or audit.found or place.tree() != place.before or {"evil", "this"} & set(sys.modules):
                    touched.append([command, dotted(at), repr(value), wrong, audit.found])
    return {"tried": tried, "touched": touched}


if __name__ == "__main__":
    where, which, number, *rest = sys.argv[1:]
    assert which in plants.KINDS
    torch.set_num_threads(1)
    result = main(Path(where), which, int(number), float(rest[0]) if rest else 1.0)
    print(json.dumps(result))
