"""Instantiating configs, and what a config that came with a file may ask for."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.paths import CONFIGS

# A config that came with a file may name what is defined here, and nothing else: no function that a module of the zoo
# merely imported or that touches the machine. Hydra's own block list is no boundary.
TRUSTED = ("zoo.models", "zoo.tasks", "zoo.data", "torch.nn.modules")
TRUSTED_FUNCTIONS = ("zoo.models",)  # builders of variants
RESUMED = (*TRUSTED, "zoo.callbacks", "torch.optim", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")


def build(config: Mapping[str, Any], where: str = "model", trust: Sequence[str] | None = (), **arguments: Any) -> Any:
    """Instantiate a config of a model, a task or data.

    Args:
        where: how the command line calls it, for messages.
        trust: modules of the user's own that a config from a file may name besides the zoo's; None trusts the config
            altogether (it is the caller's own).
        arguments: further arguments.

    Raises:
        ZooError: a target that is not trusted; an argument that its class does not take or cannot use.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    from zoo.config import check_node, locate

    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ZooError(f"{where}: _target_, the name of a class, is missing")
    # one call, and values that are what they look like: a vocabulary is long, and may have ${ or ??? in it
    plain = where == "preprocess" and not any(str(key).rpartition(".")[2].startswith("_") for key, _ in inner(config))
    if trust is not None:
        check_foreign({"_target_": config["_target_"]} if plain else config, trust)
    check_node(config, where)
    try:
        if plain:
            given = {key: value for key, value in config.items() if key != "_target_"}
            return locate(str(config["_target_"]), where)(**given, **arguments)
        return instantiate(dict(config), _convert_="all", **arguments)
    except (InstantiationException, OmegaConfBaseException, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ZooError):
            raise cause from None
        raise ZooError(f"{where}={config['_target_']}: {' '.join(str(cause).split())}") from cause


def check_foreign(config: Any, trust: Sequence[str] = ()) -> None:
    """Raise a ``ZooError`` unless all that a config from a file names, at any depth, is trusted."""
    for key, value in leaves(config):
        if key.endswith("_target_"):
            check_trusted(str(value), trust)
        elif isinstance(value, str) and "${" in value:  # it can make a node with a _target_ of its own
            raise ZooError(
                f"the file's config has an interpolation, {value}, which is not run; cards hold plain values"
            )


def check_resumed(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Raise a ``ZooError`` unless all that the training config in a checkpoint names is known here.

    Known is the zoo's own, torch's optimizers, Lightning's callbacks and loggers, and what the zoo's configs, those
    in ./configs, or the command line name.

    Args:
        overrides: the command line's; ``model._target_=my_module.Mine`` says once more what the run was started with.
    """
    known = {o.partition("=")[2] for o in overrides if o.partition("=")[0].endswith("_target_")}
    for folder in (CONFIGS, Path("configs")):
        for path in folder.glob("**/*.yaml"):
            known.update(re.findall(r"\b_target_:\s*([\w.]+)", path.read_text(encoding="utf-8")))
    for key, value in leaves(config):
        if key.endswith("_target_") and value not in known:
            try:
                check_trusted(str(value), packages=RESUMED)
            except ZooError:
                raise ZooError(
                    f"the checkpoint asks for {value}, which is nothing of this zoo or of ./configs, so it is not run; "
                    f"if you know it, say so: ++{key}={value}"
                ) from None
        elif isinstance(value, str) and "${" in value:
            raise ZooError(f"the checkpoint's config has an interpolation, {key}={value}, which is not run")


def inner(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The leaves of a config but for its own target."""
    return leaves({key: value for key, value in config.items() if key != "_target_"})


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """All values at any depth of a config, by their dotted keys."""
    if isinstance(node, (Mapping, list, tuple)) and not where.endswith("_target_"):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from leaves(value, f"{where}.{key}" if where else str(key))
    else:
        yield where, node


def check_trusted(target: str, trust: Sequence[str] = (), packages: Sequence[str] = TRUSTED) -> None:
    """Raise a ``ZooError`` unless the target is defined in a trusted module; no other module is even imported.

    A trusted module's name is not enough: my_module.os.system begins with it too, and is none of its own.
    """
    from zoo.config import locate

    module = target.rpartition(".")[0]
    if within(module, (*packages, *trust)) or module == "torch.nn":
        try:
            found = locate(target, "the file")
        except ZooError as error:
            if within(module, trust):
                raise ZooError(f"{error} (looked for here and among installed packages)") from None
            found = None
        home = getattr(found, "__module__", None) or ""
        if within(home, trust) or (
            within(home, packages) and (inspect.isclass(found) or within(home, TRUSTED_FUNCTIONS))
        ):
            return
    raise ZooError(
        f"the file asks for {target}, which is no model of this zoo, so it is not run; if you know the module, say so: "
        f"--trust {module} (in Python: trust=[...])"
    )


def within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
