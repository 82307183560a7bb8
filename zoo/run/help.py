"""The help of the training command: one screen, and on request the choices and values of a part of the config."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, get_origin

from omegaconf import OmegaConf
from rich.table import Table

from zoo.config.checks import FOREIGN, locate
from zoo.config.hints import arguments_of, describe, range_in, shown
from zoo.config.overrides import config_dirs
from zoo.config.registry import suggest
from zoo.console import Console
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.run.compose import composed, hydra_of_its_own, own_configs
from zoo.run.explain import wrong_key

GROUPS = {
    "model": "the network",
    "data": "the data set, its batches and augmentation",
    "task": "the objective: loss, metrics and regularisation",
    "optimizer": "how weights are updated",
    "scheduler": "the learning rate over time",
    "trainer": "device, precision, number of epochs",
    "callbacks": "checkpoints, averaging, early stopping, pictures",
    "logger": "where curves are written",
    "init": "trained weights to start from (transfer learning)",
    "experiment": "a published result with all its settings",
    "debug": "short runs to find mistakes",
}
EXAMPLES = """\
Examples
  train.py experiment=lenet5_mnist
  train.py model=mlp data=fashion_mnist optimizer=sgd scheduler=cosine model.dropout=0.5 seed=1
  train.py -m model.dropout=0,0.25,0.5        a sweep: a run for each value, and a table
  train.py resume=last                        go on with the newest run in logs/

More
  train.py --help model                       the choices of a group and the values of the chosen one
  train.py model=mlp --help model.dropout     one value: its meaning and what is valid
  train.py --hydra-help                       the flags of Hydra, such as --multirun and --cfg"""


def asked(words: Sequence[str]) -> tuple[str | None, list[str]] | None:
    """What a command line asks to be explained, and its overrides; None if it asks for no help.

    The subject is the word after ``--help``, or None for the whole command.
    """
    at = next((i for i, word in enumerate(words) if word in ("--help", "-h") or word.startswith("--help=")), None)
    if at is None:
        return None
    subject = words[at].partition("=")[2] or None
    rest = [*words[:at], *words[at + 1 :]]
    if subject is None and at + 1 < len(words) and re.fullmatch(r"[\w.]+", words[at + 1]):
        subject, rest = words[at + 1], [*words[:at], *words[at + 2 :]]
    return subject, [word for word in rest if not word.startswith("-") and word not in config_dirs(words)]


def print_help(subject: str | None, overrides: Sequence[str]) -> None:
    """Print the screen of the whole command, or of one group, of the values below a key, or of one value."""
    console = Console(soft_wrap=False)
    if subject is None:
        print("Train a model: train.py GROUP=CHOICE … key=value …\n")
        console.print(groups(overrides))
        print(f"\n{EXAMPLES}")
        return
    with hydra_of_its_own():
        config: Any = OmegaConf.to_container(composed(overrides), resolve=False)
    del config["hydra"]
    if subject in GROUPS:
        print(f"{subject}: {GROUPS[subject]}\n")
        console.print(choices(subject))
        print()
    elif subject not in config and "." not in subject:
        raise suggest(subject, [*GROUPS, *(key for key in config if key not in GROUPS)], "group or value")
    if subject in config or "." in subject:
        console.print(table(list(values(config, subject))))


def groups(overrides: Sequence[str]) -> Table:
    """A row for each group: what it is, and the choice that the overrides and defaults make. Composes nothing."""
    found = Table("group", "choice", "", box=None, padding=(0, 2, 0, 2), pad_edge=True, header_style="bold")
    content: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "train.yaml"), resolve=False)
    chosen = {key: value for entry in content["defaults"] if isinstance(entry, dict) for key, value in entry.items()}
    chosen |= {key: value for key, _, value in (o.partition("=") for o in overrides) if key in GROUPS}
    for group, meaning in GROUPS.items():
        many = len(files(group))
        default = chosen.get(group) or "none"
        text = ", ".join(default) if isinstance(default, list) else str(default)
        found.add_row(group, text, f"{meaning} ({many} choices)")
    return found


def files(group: str) -> dict[str, Path]:
    """The choices of a group: the zoo's, and the user's own."""
    folders = [CONFIGS, *own_configs()]
    return {path.stem: path for folder in reversed(folders) for path in sorted((folder / group).glob("*.yaml"))}


def choices(group: str) -> Table:
    found = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for name, path in sorted(files(group).items()):
        found.add_row(f"{group}={name}" if group != "callbacks" else name, headline(path))
    return found


def headline(path: Path) -> str:
    """The first comment of a config, which says what it is."""
    lines = path.read_text("utf-8", "replace").splitlines()
    comments = (line.lstrip("# ").rstrip() for line in lines if line.startswith("#") and "@package" not in line)
    return next(comments, "")


def values(config: Mapping[str, Any], subject: str) -> Iterator[tuple[str, str, str, str]]:
    """For each value at or below a dotted key: key, value as it is now, what is valid, meaning.

    Args:
        config: the composed config, with its interpolations, which may need data that are not there.
    """
    node = at(config, subject)
    below = [f"{subject}.{key}" for key in node] if isinstance(node, Mapping) else [subject]
    notes = comments(subject.partition(".")[0])
    for key in below:
        name = key.rpartition(".")[2]
        if name.startswith("_"):
            continue
        value = followed(config, at(config, key))
        if isinstance(value, Mapping) and "_target_" in value:
            target = str(value["_target_"])
            about = sentence((inspect.getdoc(locate(target, key)) or "").partition("\n\n")[0])
            yield key, target.rpartition(".")[2], f"see --help {key}", about
            continue
        hint, said = argument(at(config, key.rpartition(".")[0]), key)
        yield key, shown(value), valid(hint), said or notes.get(name, "")


def at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; raises a ``ZooError`` with valid keys if there is none."""
    node: Any = config
    for part in key.split(".") if key else ():
        if not (isinstance(node, Mapping) and part in node):
            raise ZooError(wrong_key(key, config))
        node = node[part]
    return node


def followed(config: Mapping[str, Any], value: Any) -> Any:
    """The value that an interpolation of another key stands for; others stay as they are."""
    while isinstance(value, str) and (found := re.fullmatch(r"\$\{(\w+(?:\.\w+)*)\}", value)):
        try:
            value = at(config, found[1])
        except ZooError:
            break
    return value


def argument(node: Any, key: str) -> tuple[Any, str]:
    """The type hint of a value and what the docstring of the class that takes it says about it.

    Args:
        node: the mapping that holds the value.
    """
    parent, _, name = key.rpartition(".")
    if not (isinstance(node, Mapping) and "_target_" in node):
        return None, ""
    target = locate(str(node["_target_"]), parent)
    hint = arguments_of(target)[0].get(name)
    if str(node["_target_"]).startswith("zoo."):
        return hint, documented(target).get(name, "")
    if name in FOREIGN:
        hint = Annotated[hint, FOREIGN[name]]
    note = comments(parent.partition(".")[0]).get(name)  # of a class that is not the zoo's, our words come first
    return hint, note or documented(target).get(name, "")


def documented(target: Any) -> dict[str, str]:
    """The first sentence about each argument in the docstrings of a class, its bases and their constructors."""
    found: dict[str, str] = {}
    kinds = [k for k in target.__mro__ if k is not object] if inspect.isclass(target) else [target]
    for kind in kinds:
        for thing in (kind, vars(kind).get("__init__")):
            for name, text in arguments_in(inspect.getdoc(thing) or "" if thing else "").items():
                if other := re.fullmatch(r"see (\w+)", text):  # another class of this module, or a base
                    text = documented(vars(sys.modules[kind.__module__]).get(other[1], object)).get(name, "")
                if text:
                    found.setdefault(name, text)
    return found


def arguments_in(docstring: str) -> dict[str, str]:
    """What the part "Args:" of a docstring says: the first sentence for each name."""
    part = re.search(r"^Args:[ ]*\n(.*?)(?=^\S|\Z)", docstring, re.M | re.S)
    if part is None:
        return {}
    text = inspect.cleandoc(part[1])
    entries = re.findall(r"^(\w[\w, ]*?)(?: *\([^\n]*?\))?:[ \n](.*?)(?=^\w|\Z)", text, re.M | re.S)
    return {name: sentence(words) for names, words in entries for name in re.split(r",\s*", names)}


def sentence(text: str) -> str:
    """The first sentence, in one line, without marks for code and cross-references."""
    line = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(text.split())).replace("``", "").replace("`", "")
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!al)[.;](?= [\"A-Z])", line)
    return re.sub(r" \(default: [^)]*\)$", "", line[: end.start()] if end else line.rstrip("."))


def comments(group: str) -> dict[str, str]:
    """The comments beside values in the configs of a group and in those that configs share."""
    shared = [CONFIGS / "train.yaml", *(CONFIGS / "base").glob("*.yaml")]
    return {**comments_in(shared), **comments_in(files(group).values())}


def comments_in(paths: Iterable[Path]) -> dict[str, str]:
    """The comment beside each value in some configs; the longest if several have one."""
    found: dict[str, str] = {}
    for path in paths:
        for name, text in re.findall(r"^\s*(\w+):[^#\n]*# (.+)$", path.read_text("utf-8", "replace"), re.M):
            found[name] = max(found.get(name, ""), text, key=len)
    return found


def valid(hint: Any) -> str:
    """A type hint and its range in words."""
    if hint is None or hint is Any:
        return ""
    limits, words = range_in(hint), describe(hint)
    if limits is None:
        plain = hint in (bool, float, int, str) or get_origin(hint) is not None
        return words if plain and words != "null" else ""
    low, high = (f"{limit:,.0f}" if float(limit).is_integer() else f"{limit:g}" for limit in limits)
    return f"{words}, {low} to {high}" if limits.high < inf else f"{words}, at least {low}"


def table(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    found = Table("value", "now", "valid", "meaning", box=None, padding=(0, 2, 0, 2), header_style="bold")
    for row in rows:
        found.add_row(*row)
    return found
