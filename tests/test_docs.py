"""The site: no link in it is dead, its commands are valid, and its glossary explains every metric."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf, open_dict
from PIL import Image

from zoo.cli import app
from zoo.config.checks import check_config
from zoo.paths import CONFIGS
from zoo.pretrained.card import arrow
from zoo.run.resolvers import register_resolvers

from .conftest import REPO
from .test_readme import GUIDES

DOCS = REPO / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *REPO.glob("*.md"), REPO / "data" / "README.md", REPO / "benchmarks" / "README.md"])


def commands(start: str, skip: tuple[str, ...]) -> list[str]:
    """The commands of the pages that ``tests/test_readme.py`` does not run, without those with a word of ``skip``."""
    found = set()
    for page in PAGES:
        if page.stem in GUIDES or page == REPO / "README.md":
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S):
            found |= {line for line in block.splitlines() if line.startswith(start)}
    return sorted(line for line in found if not any(word in line for word in skip))


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_no_link_is_dead(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(REPO), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_table_of_contents():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    entries = "\n".join(re.findall(r"^```\{toctree\}\n(.*?)^```", text, flags=re.M | re.S)).splitlines()
    assert {page.stem for page in DOCS.glob("*.md")} <= {*entries, "index"}


# --- commands ---------------------------------------------------------------------------------------------------------

# what names a file of the user's: a run, or a config of their own
OWN = ("resume=", "=mine", "callbacks.mine", "callbacks=[default,mine]")


@pytest.mark.parametrize("line", commands("python train.py", OWN))
def test_training_commands_compose(line, tmp_path, monkeypatch, toy_data):
    monkeypatch.chdir(tmp_path)
    for name in ("my_photos/cat", "my_photos/dog"):  # the folder that the page on own images begins with
        Path(name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (40, 40), (20 * i, 90, 90)).save(f"{name}/{i}.png")
    Path("my_recordings").mkdir()  # and the page on speech
    for name in "ab":
        Path(f"my_recordings/{name}.wav").touch()
    Path("my_recordings/transcripts.tsv").write_text("a.wav\tone\nb.wav\ttwo\n")
    register_resolvers()
    GlobalHydra.instance().clear()
    few = ["data.val_size=20", "data.test_size=20"] if "tatoeba" in line else []  # there are 240 toy pairs
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*first_of_each(line), "name=test", *few], return_hydra_config=True)
    cfg.hydra.runtime.output_dir = "logs"
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    if "tiny_shakespeare" in line:
        cfg.data.val_size = 100  # of a shorter text
    if cfg.trainer.precision == "auto":  # a run chooses by the processor
        cfg.trainer.precision = 32
    check_config(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]


def first_of_each(line: str) -> list[str]:
    """The overrides of a command, of a sweep the first value of each, without those of Hydra's launchers, which are
    packages of their own.
    """
    arguments = [part for part in shlex.split(line, comments=True)[2:] if part not in ("-m", "--multirun")]
    chosen = []
    for override in OverridesParser.create().parse_overrides(arguments):
        if not override.key_or_group.startswith("hydra"):
            key, value = override.get_key_element(), override.value()
            if isinstance(value, IntervalSweep):  # a range that Optuna draws from
                chosen.append(f"{key}={value.start}")
            elif override.is_sweep_override():
                chosen.append(f"{key}={next(override.sweep_string_iterator())}")
            else:
                chosen.append(str(override.input_line))
    return chosen


@pytest.mark.parametrize("line", commands("zoo ", ("zoo train",)))
def test_zoo_commands_are_valid(line):
    _, name, *arguments = shlex.split(line, comments=True)
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, arguments)  # raises if an option is unknown or a value is not valid


# --- metrics ----------------------------------------------------------------------------------------------------------


def logged() -> set[str]:
    """The names of metrics in the code of tasks and measures, and in the shipped cards."""
    names = {"error"}
    for path in [*(REPO / "zoo" / "tasks").glob("*.py"), REPO / "zoo" / "pretrained" / "measures.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "log_training":
                names |= {keyword.arg for keyword in node.keywords if keyword.arg}
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                holder = getattr(node.value, "attr", getattr(node.value, "id", ""))
                names |= {node.slice.value} if holder in ("measures", "metrics", "found") else set()
            if isinstance(node, ast.Dict) and path.name in ("measures.py", "density.py", "variational.py"):
                names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"^(?:train|val|test)/(\w+)$", node.value))
    for path in (REPO / "zoo" / "weights").glob("*.json"):
        names |= json.loads(path.read_text(encoding="utf-8"))["metrics"].keys()
    return {name for name in names if isinstance(name, str)} - {"labels"}  # of a call of a model


def glossary() -> dict[str, str]:
    """The metrics of docs/metrics.md, and the column that says which direction is better."""
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    return {name: better for name, better in re.findall(r"^\| `([\w/-]+)`[^|]*\|[^|]*\| ([↑↓–]) \|", text, flags=re.M)}


def test_the_glossary_has_every_metric():
    names = logged()
    assert {"accuracy", "bits_per_character", "fid", "kl", "sure", "generator_loss", "nll"} <= names
    assert names <= glossary().keys()


def test_the_glossary_and_the_tables_agree_which_direction_is_better():
    found = glossary()
    for path in (REPO / "zoo" / "weights").glob("*.json"):
        for name in json.loads(path.read_text(encoding="utf-8"))["metrics"]:
            if name == "agreement":  # of a generator; in training with few labels it is a loss
                continue
            assert found[name] == (arrow(name) or "–"), name
