"""The complete planting (``tests.audited``), in the slow part a sample of it; and quickly of ``zoo sample`` alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audited import call, commands
from tests.conftest import REPO
from tests.plants import TARGETS, Watched, leaves, make_runs, plant

SAMPLED = ("text", "generator")
SHARE = 0.08  # of the places, so that a kind takes a minute or two on one core


def in_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A Python of its own, as audit hooks stay; what is temporary or cached lies in the folder."""
    places = {
        "TMPDIR": folder / "tmp",
        "XDG_CACHE_HOME": folder / "cache",
        "TORCHINDUCTOR_CACHE_DIR": folder / "tmp" / "compiled",
    }
    for path in places.values():
        path.mkdir()
    more = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **more, **{name: str(path) for name, path in places.items()}}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("averaged", 0), ("text", 1), ("generator", 2)])
def test_nothing_but_the_run_is_touched(tmp_path, kind, seed):
    done = in_process(tmp_path, "-m", "tests.audited", str(tmp_path), kind, str(seed), str(SHARE))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert not result["touched"], json.dumps(result["touched"], indent=1)
    assert sum(result["tried"].values()) > 40
    assert min(result["tried"].values()) > 3


DEEDS = """
import os, shutil, socket, subprocess, sys, tempfile
from pathlib import Path
from tests.audit import Audit

folder = Path(sys.argv[1])
run, outside, secret = folder / "run", folder / "outside", folder / "secret"
for path in (run / "a", outside / "b", secret):
    path.mkdir(parents=True)
(secret / "key").write_text("x")
(outside / "evil.py").write_text("x = 1")
for name in "cdefgh":
    (outside / name).write_text("x")
(run / "link").symlink_to(outside)
audit = Audit([run], secret, [])
deeds = {
    "read": lambda: (secret / "key").read_text(),
    "write": lambda: (outside / "c").write_text("y"),
    "append": lambda: (outside / "c").open("a").close(),
    "through a link": lambda: (run / "link" / "i").write_text("y"),
    "remove": lambda: (outside / "d").unlink(),
    "rename": lambda: (run / "a").rename(outside / "a"),
    "move in": lambda: os.replace(outside / "e", run / "e"),
    "mkdir": lambda: (outside / "new").mkdir(),
    "rmtree": lambda: shutil.rmtree(outside / "b"),
    "symlink": lambda: (outside / "s").symlink_to("x"),
    "import": lambda: (sys.path.insert(0, str(outside)), __import__("evil")),
    "run": lambda: subprocess.run(["true"]),
    "system": lambda: os.system("true"),
    "connect": lambda: socket.socket().connect_ex(("127.0.0.1", 9)),
    "look up": lambda: socket.getaddrinfo("localhost", 80),
}
fine = {
    "write": lambda: (run / "x").write_text("y"),
    "read": lambda: (outside / "f").read_text(),
    "remove a link": lambda: (run / "link").unlink(),
    "import": lambda: __import__("colorsys"),
}
for kind, each in {"seen": deeds, "not seen": fine}.items():
    for name, deed in each.items():
        audit.found, audit.on = [], True
        deed()
        audit.on = False
        assert bool(audit.found) == (kind == "seen"), (kind, name, audit.found)
print(len(deeds) + len(fine))
"""


def test_the_audit_sees_what_is_done(tmp_path):
    done = in_process(tmp_path, "-c", DEEDS, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "19\n"


# --- zoo sample -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    return make_runs(tmp_path_factory.mktemp("runs"), SAMPLED)


@pytest.mark.parametrize("kind", SAMPLED)
def test_no_leaf_of_a_card_leads_a_sample_elsewhere(tmp_path, monkeypatch, toy_data, runs, kind):
    """Of model and preprocessing each is refused in a line; objective and data, which no sample needs, are not read."""
    place = Watched(tmp_path, runs[kind])
    place.enter(monkeypatch)
    content = place.content()
    values = [*place.texts(), *place.nodes()]
    count = 0
    for part in ("model", "preprocess", "task", "data"):
        for at in list(leaves(content["card"][part]))[:20]:  # of a vocabulary the first
            if part == "preprocess" and "vocabulary" in at:
                continue  # its tokens are texts, whatever they say
            choices = TARGETS if at[-1] == "_target_" else values
            for value in choices[count % 9 :: 9] if part in ("model", "preprocess") else choices[count % 21 :: 21]:
                path = place.write(plant(content, ("card", part, *at), value))
                code, output = call(commands(place, path, kind)["sample"])
                place.check((part, at, value))
                if part in ("model", "preprocess"):
                    assert code == 1, (part, at, value, output)
                    assert "\n" not in output, output
            count += 1
    assert count > 20
