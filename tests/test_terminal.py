"""What reaches the terminal: names and texts from files, whatever is in them."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from zoo import cli, terminal
from zoo.cli import base
from zoo.console import Console
from zoo.data import fetch
from zoo.pretrained.card import Card
from zoo.pretrained.transfer import Row
from zoo.run import sweep
from zoo.run.report import changes, weight_table
from zoo.terminal import as_json, clean
from zoo.use.predict import predict_files

from .test_pretrained import LENET, make_card, ship, write_checkpoint

EVIL = "\x1b]0;owned\x07\x9b2J\x1b[8m\u202egpj.exe\x7f\rx\nerror: forged"
SHOWN = r"\x1b]0;owned\x07\x9b2J\x1b[8m\u202egpj.exe\x7f\rx\nerror: forged"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ship(tmp_path / "weights", monkeypatch)


@pytest.fixture
def run(monkeypatch, capfdbinary):
    """The command in this process: arguments -> (exit code, stdout, stderr), as bytes."""

    def call(*arguments: object) -> tuple[int, bytes, bytes]:
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (int(stop.value.code or 0), *capfdbinary.readouterr())

    return call


def test_what_is_shown_and_what_is_let_through():
    assert clean(EVIL) == SHOWN
    assert clean("na\u00efve \u6f22\u5b57 \U0001f600 [head] :cat:") == "na\u00efve \u6f22\u5b57 \U0001f600 [head] :cat:"
    assert clean("a\tb\r\n", keep="\n\t") == "a\tb\\r\n"
    assert clean("a\udcff\ud800") == "a\\xff\\ud800"
    assert clean("a\udcff\x1b", halves=False) == "a\udcff\\x1b"


def evil_card(shipped: Path) -> Card:
    """A card with control characters wherever a stranger can write text."""
    data = {"_target_": "zoo.data.images.ImageData", "name": EVIL}
    card = make_card(title=EVIL, published=EVIL, command=EVIL, hardware=EVIL, data=data, metrics={EVIL: 0.5, "f1": 0.1})
    card.classes = [EVIL, *"123456789"]
    card.metric, card.licence, card.sha256 = EVIL, EVIL, Card.read(shipped).sha256
    card.save(shipped)
    return card


@pytest.mark.parametrize("command", [["list"], ["info", "small"], ["results"]])
def test_a_card_cannot_drive_the_terminal(shipped, run, command):
    evil_card(shipped)
    code, out, err = run(*command)
    assert code == 0
    assert rb"\x1b]0;owned\x07" in out
    assert not FORBIDDEN.search(out.decode() + err.decode())
    assert "\nerror: forged" not in out.decode() or command == ["results"]  # which is a page of lines


def test_predictions_cannot_drive_the_terminal(shipped, run):
    evil_card(shipped)
    Image.new("L", (28, 28)).save(f"{EVIL.replace('/', '')}.png")
    code, out, err = run("predict", "small", ".", "--top", 10)
    assert code == 0
    assert not FORBIDDEN.search(out.decode() + err.decode())
    assert out.count(b"\n") == 1
    code, out, err = run("predict", "small", ".", "--top", 10, "--json")
    assert not FORBIDDEN.search(out.decode())
    (result,) = json.loads(out)
    assert result["file"] == f"{EVIL}.png"
    assert EVIL in [p["class"] for p in result["predictions"]]


def test_tables_on_a_terminal_hold_rich_s_own_escapes_alone(shipped):
    """Colours come from the console, and nothing else does."""
    for table in (base.card_table(evil_card(shipped)), weight_table([Row(EVIL, "wrong shape", EVIL)], set())):
        table.title = EVIL
        file = io.StringIO()
        Console(file=file, force_terminal=True, color_system="standard", width=3000).print(table)
        plain = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())
        assert not FORBIDDEN.search(plain)
        assert SHOWN in plain


@pytest.mark.parametrize("where", ["target", "key", "name"])
def test_an_error_cannot_drive_the_terminal(shipped, run, where):
    card = make_card(**{"model": {**LENET, "_target_": EVIL}} if where == "target" else {})
    content = {**vars(card), EVIL: 1} if where == "key" else vars(card)
    path = Path(f"{EVIL}.ckpt") if where == "name" else Path("a.ckpt")
    write_checkpoint(path, card=content) if where != "name" else path.write_text("no checkpoint")
    code, out, err = run("info", path)
    assert (code, out) == (1, b"")
    assert err.count(b"\n") == 1
    assert SHOWN.encode() in err
    assert not FORBIDDEN.search(err.decode())


def test_progress_and_warnings_cannot_drive_the_terminal(capfd, monkeypatch):
    with fetch.busy(EVIL):
        pass
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    terminal.accept_any_text()
    sys.stderr.write(warnings.formatwarning(EVIL, UserWarning, "file.py", 1, ""))
    err = capfd.readouterr().err
    assert SHOWN.partition(r"\n")[0] in err
    assert not FORBIDDEN.search(err)


# --- names are printed as they are ------------------------------------------------------------------------------------


def test_brackets_and_colons_in_names_are_no_markup(tmp_path, capfd):
    """In the table of a sweep, its title, and the table of weights."""
    folder = tmp_path / "runs [v2] :cat:"
    folder.mkdir()
    rows = [{"run": str(i), "callbacks": c, "accuracy": "0.5"} for i, c in enumerate(("[default]", "[default,ema]"))]
    sweep.show(rows, folder)
    out = capfd.readouterr().out
    for words in ("[default]", "[default,ema]", "[v2] :cat:"):
        assert words in out
    file = io.StringIO()
    Console(file=file, width=200).print(weight_table([Row("[red]head", "copied", "[/]")], set()))
    assert "[red]head" in file.getvalue()


def test_names_that_are_not_utf8(shipped, run):
    """A pipe gets the bytes that are on the disk; JSON is valid, and Python's ``os.fsencode`` gives them back."""
    name = b"caf\xe9 \xff.png"
    Image.new("L", (28, 28)).save("a.png")
    os.rename(b"a.png", name)
    code, out, err = run("predict", "small", ".")
    assert (code, err) == (0, b"")
    assert out.startswith(name + b"  ")
    code, out, err = run("predict", "small", os.fsdecode(name), "--json")
    assert code == 0
    (result,) = json.loads(out.decode("ascii"))
    assert os.fsencode(result["file"]) == name
    Path(os.fsdecode(b"caf\xe9.png")).write_text("no image")
    code, out, err = run("predict", "small", ".")
    assert code == 1
    assert out.startswith(name)
    assert b"caf\\xe9.png" in err  # stderr is for people


def test_a_class_of_any_name_is_trained_drawn_and_predicted(run_train, tmp_path):
    """A folder's name is a class's name: bytes that are no UTF-8, formulas, controls, markup."""
    import numpy as np

    names = [b"caf\xe9", b"$5 {x_$", b"\x1b[2J\n\t", b"[red]a[bold]", "é :cat:".encode()]
    for name in names:
        folder = os.fsdecode(bytes(tmp_path / "photos") + b"/" + name)
        os.makedirs(folder)
        for i in range(5):
            pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{i}.png")
    settings = ("data=image_folder", "data.root=photos", "model=linear", "data.image_size=32", "data.resize=32")
    code, output = run_train(*settings, "trainer.max_epochs=1", "hydra.run.dir=run", "data.val_size=0.2")
    assert code == 0, output
    assert not FORBIDDEN.search(output)
    results, errors = predict_files("run/checkpoints/last.ckpt", [Path(os.fsdecode(b"photos/caf\xe9"))], top=5)
    assert errors == []
    told = {os.fsencode(p["class"]) for result in json.loads(as_json(results)) for p in result["predictions"]}
    assert told == set(names)


def test_json_keeps_letters():
    assert as_json({"class": "가 é"}) == '{\n  "class": "가 é"\n}'
    value = [{"a\x1b": "\x9b\u2028\udcff\n\u202e\x7f"}]
    assert json.loads(as_json(value)) == value
    assert as_json(value).isascii()


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_output_takes_what_the_encoding_has_not(locale):
    code = "from zoo import terminal; terminal.accept_any_text(); print('\\ud800 \\udcff \\u00e9 \\uac00')"
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    letters = "é 가".encode() if locale == "C.UTF-8" else rb"\xe9 \uac00"
    assert out == rb"\ud800 " + b"\xff " + letters + b"\n"


@pytest.mark.parametrize("terminal_", [True, False])
def test_what_a_model_writes(monkeypatch, capsys, terminal_):
    """Lines and tabs are the text's; a pipe gets all as it is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal_)
    terminal.write("a\n\tb\x1b[2J\u202e")
    assert capsys.readouterr().out == (r"a@#b\x1b[2J\u202e" if terminal_ else "a@#b\x1b[2J\u202e").replace("@#", "\n\t")


def test_a_name_says_what_is_different():
    """Two runs of an experiment with other settings are told apart."""
    assert changes("python train.py experiment=lenet5_mnist") == ""
    told = changes("python train.py experiment=lenet5_mnist seed=1 optimizer.lr=0.2 '++task.tta=a b' hydra.run.dir=x")
    assert told == " (optimizer.lr=0.2, task.tta=a b)"
    assert changes("python train.py a=1 b=2 c=3 d=4 e=5") == " (a=1, b=2, c=3, d=4, …)"
