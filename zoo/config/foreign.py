"""What a config from an untrusted file may contain: numbers and choices, but no paths, and only code of the zoo.

``docs/security.md`` explains this for users. Hydra's own block list is no sufficient protection.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from zoo.config.own import may_be_proposed
from zoo.errors import ZooError
from zoo.terminal import CONTROLS as CONTROL

# For each part of a config, the modules that define the classes a file may name there. What such a module has merely
# imported from elsewhere is not allowed.
HOMES = {
    "model": ("zoo.models", "torch.nn.modules"),
    "task": ("zoo.tasks", "torch.nn.modules"),  # the latter for loss functions
    "data": ("zoo.data",),
    "preprocess": (
        "zoo.data.preprocess",
        "zoo.data.tokens",
        "zoo.data.joint",
        "zoo.data.synthetic",
        "zoo.data.tensors",
        "zoo.data.spectrum",
        "zoo.data.story_words",
    ),
}
FUNCTIONS = ("zoo.models",)  # modules of which functions may be named too: they build variants of a model
DEEPEST = 20  # levels of nested mappings and lists; the zoo's own configs have 4

# An argument with such a name is treated as a file or a folder, however harmless its value looks.
FILE_KEY = re.compile(
    r"(^|_)(path|file|filename|root|dir|dirpath|directory|folder|weights|checkpoint|ckpt|source|tokenizer|judge|url)s?$"
)
METRIC = re.compile(r"[\w-]+(/[\w-]+)?")  # val/loss


def check_name(name: str, where: str) -> None:
    """Raise a ``ZooError`` if a name, used as part of a path, could lead to another folder."""
    if not name or name == "." or ".." in name or re.search(r"[/\\$~]", name) or CONTROL.search(name):
        raise ZooError(
            f"{where}={ascii(name)[1:-1]} is not valid: a name has no / \\ .. $ ~ and no control characters in it"
        )


def is_file(key: str, value: Any, hint: Any = Any) -> bool:
    """Whether a value could be taken for the path of a file, unless it is a name that the zoo knows.

    Args:
        key: the argument's name, possibly dotted.
        hint: the argument's type hint, if known.
    """
    if not isinstance(value, str):
        return False
    name = next((part for part in reversed(key.split(".")) if not part.isdigit()), "")
    if name in ("monitor", "metric"):
        return METRIC.fullmatch(value) is None
    if name in ("weights", "source", "tokenizer", "judge") and is_shipped(value):
        return False
    by_type = Path in (hint, *get_args(hint))
    looks_so = value in (".", "..") or re.search(r"[/\\$~]", value) or CONTROL.search(value)
    return by_type or bool(FILE_KEY.search(name) or looks_so)


def is_shipped(name: str) -> bool:
    """Whether a name is that of weights that the zoo ships or downloads itself; files of that name do not matter."""
    from zoo.pretrained.card import shipped

    return name in shipped() or name == "inception" or re.fullmatch(r"torchvision:\w+", name) is not None


# --- cards ------------------------------------------------------------------------------------------------------------


def check_foreign(config: Any, trust: Sequence[str] = (), where: str = "model") -> None:
    """Raise a ``ZooError`` if a config from a file names, at any depth, a class or a path that is not allowed.

    Args:
        trust: what the user trusts: names of modules besides the zoo's, and values as in "data.file=my.txt".
        where: the part of a card that the config is: "model", "task", "data" or "preprocess".
    """
    modules, known = trusted(trust)
    for place, node in nodes(config, where):
        target = str(node.get("_target_", ""))
        if "_target_" in node:
            check_trusted(target, modules, HOMES[where])
        hints = hints_of(target)
        for key, value in values(node, place):
            name = key.rpartition(".")[2]
            if isinstance(value, str) and "${" in value:  # it could create a node with a _target_
                raise ZooError(
                    f"the file's config has an interpolation, {value}, which is not run; cards hold plain values"
                )
            special = name.startswith("_") and name.endswith("_") and name not in ("_target_", "_convert_")
            if special and not within(target, modules):
                raise ZooError(f"the file's config has {key}, which is not run; cards hold plain arguments")
            if key not in known and name != "_target_" and is_file(key, value, hints.get(name)):
                shown = ascii(value)[1:-1]
                raise ZooError(
                    f"the file's config has a path, {key}={shown}, but files may not give paths; if you know it, say "
                    f"so: --trust '{key}={shown}'"
                )


def trusted(trust: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split the entries of ``trust`` into names of modules, and values by their dotted keys."""
    pairs = [entry.partition("=") for entry in trust]
    return [entry for entry, equals, _ in pairs if not equals], {key: value for key, equals, value in pairs if equals}


def with_known(config: Mapping[str, Any], where: str, known: Mapping[str, str]) -> dict[str, Any]:
    """A config whose values are replaced by the user's, for those keys that it has."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        dotted = f"{where}.{key}"
        if isinstance(value, Mapping):
            found[key] = with_known(value, dotted, known)
        elif isinstance(value, list):  # such as data.files
            found[key] = [known.get(f"{dotted}.{i}", item) for i, item in enumerate(value)]
        else:
            found[key] = known.get(dotted, value)
    return found


def nodes(config: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings in a config, at any depth, each after its dotted key.

    Raises:
        ZooError: the config is nested more than ``DEEPEST`` levels deep, as one that contains itself is.
    """
    if depth > DEEPEST:
        raise ZooError(f"the file's config is nested too deeply, at {place[:60]}…; no config of the zoo is")
    if isinstance(config, Mapping):
        yield place, config
    if isinstance(config, (Mapping, list, tuple)):
        for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
            yield from nodes(value, f"{place}.{key}" if place else str(key), depth + 1)


def values(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The values of a mapping, including those in lists but not those of nested mappings, each after its dotted key."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        dotted = f"{place}.{key}" if place else str(key)
        if isinstance(value, (list, tuple)) and key != "_target_":
            yield from values(value, dotted)
        elif not isinstance(value, Mapping) or key == "_target_":
            yield dotted, value


def hints_of(target: str) -> dict[str, Any]:
    """The type hints of the arguments of a class or function; empty if it cannot be imported or has no usable hints."""
    from zoo.config.checks import locate

    try:
        found = locate(target, "the file")
        return get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # also for hints that only type checkers can resolve
        return {}


def check_trusted(target: str, trust: Sequence[str] = (), homes: Sequence[str] = HOMES["model"]) -> None:
    """Raise a ``ZooError`` unless the target is defined in a trusted module. Other modules are not even imported.

    It is not enough that the target begins with a trusted module's name: my_module.os.system does, but is defined
    elsewhere.
    """
    from zoo.config.checks import locate

    module = target.rpartition(".")[0]
    if within(module, (*homes, *trust)) or (module == "torch.nn" and "torch.nn.modules" in homes):
        try:
            found = locate(target, "the file")
        except ZooError as error:
            if within(module, trust):
                raise ZooError(f"{error} (looked for here and among installed packages)") from None
            found = None
        home = getattr(found, "__module__", None) or ""
        if within(home, trust) or (within(home, homes) and (inspect.isclass(found) or within(home, FUNCTIONS))):
            return
    advice = f"; if you know the module, say so: --trust {module} (in Python: trust=[...])"
    raise ZooError(
        f"the file asks for {ascii(target)[1:-1]}, which a file may not name in this place, so it is not run"
        f"{advice if may_be_proposed(target) else ''}"
    )


def within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
