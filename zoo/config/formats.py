"""Format versions of cards and checkpoints, and the names that have changed since older files were written.

A card or a checkpoint contains names of classes, arguments and tensors, which may be renamed later. Whoever renames one
adds the old and the new name to a table here; older files are then read as if they had been written today. If a name
changes a second time, all its entries are updated, so that a single lookup gives today's name. Imports no torch.
"""

from collections.abc import Mapping
from typing import Any

from zoo.config.plain import shortened
from zoo.errors import ZooError

CARD = 1  # 0: a card without a field ``format``
CHECKPOINT = 1  # 0: a checkpoint without a key ``format``

# Classes and functions: the old value of ``_target_``, and today's.
TARGETS: dict[str, str] = {
    # Lightning's classes, later replaced by classes of the zoo with the same arguments
    "lightning.pytorch.callbacks.ModelCheckpoint": "zoo.run.saving.Checkpoint",
    "lightning.pytorch.callbacks.EMAWeightAveraging": "zoo.run.averaging.EMA",
    "lightning.pytorch.loggers.TensorBoardLogger": "zoo.run.curves.Curves",
    "zoo.callbacks.saving.Checkpoint": "zoo.run.saving.Checkpoint",
    "zoo.callbacks.averaging.EMA": "zoo.run.averaging.EMA",
    "zoo.callbacks.averaging.Lookahead": "zoo.run.averaging.Lookahead",
    "zoo.callbacks.curves.Curves": "zoo.run.curves.Curves",
    "zoo.callbacks.control.StopAndResume": "zoo.run.control.StopAndResume",
    "zoo.callbacks.control.StopOnNonFinite": "zoo.run.control.StopOnNonFinite",
    "zoo.callbacks.progress.Progress": "zoo.run.progress.Progress",
    "zoo.parallel.FullyShard": "zoo.run.parallel.FullyShard",
    "zoo.callbacks.tensorboard.SharedCharts": "zoo.callbacks.charts.SharedCharts",
    "zoo.callbacks.tensorboard.Norms": "zoo.callbacks.charts.Norms",
    "zoo.callbacks.tensorboard.Graph": "zoo.callbacks.charts.Graph",
    "zoo.callbacks.tensorboard.HParams": "zoo.callbacks.charts.HParams",
    "zoo.callbacks.tensorboard.Kernels": "zoo.callbacks.classes.Kernels",
    "zoo.callbacks.tensorboard.ConfusionMatrix": "zoo.callbacks.classes.ConfusionMatrix",
    "zoo.callbacks.tensorboard.Mistakes": "zoo.callbacks.classes.Mistakes",
    "zoo.callbacks.tensorboard.Projector": "zoo.callbacks.classes.Projector",
    "zoo.models.gan.DCGAN": "zoo.models.dcgan.DCGAN",
    "zoo.models.alexnet.CifarAlexNet": "zoo.models.alexnet_cifar.CifarAlexNet",
}
# By today's target: the old name of an argument, and today's, or None for one that no longer exists and is dropped.
ARGUMENTS: dict[str, dict[str, str | None]] = {}
# By today's target of a model or a task: the old name of a tensor, or of a layer with everything in it, and today's.
TENSORS: dict[str, dict[str, str]] = {
    "zoo.models.dcgan.DCGAN": {  # these layers were outside of the two networks
        "head": "discriminator.head",
        "class_codes": "generator.class_codes",
        "class_matches": "discriminator.class_matches",
    },
}

# How pictures become images like those of a data set, for cards written before their preprocessing said it
FITS = {"mnist": "digits", "fashion_mnist": "garment"}

CONFIGS = ("model", "task", "data", "preprocess")  # the fields of a card that are configs
DEEPEST = 64  # levels of nesting in a config


def check_version(content: Mapping[str, Any], known: int, where: str) -> None:
    """Raise a ``ZooError`` if a card or checkpoint has a newer format than ``known``, or an invalid one."""
    version = content.get("format", 0)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise ZooError(f"{where} is damaged: its format is {shortened(version)}, not a version's number")
    if version > known:
        raise ZooError(
            f"{where} has format {shortened(version)}, and this zoo knows formats up to {known}: a newer zoo "
            f"wrote it; update reference-zoo"
        )


def current_card(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a card in today's format and with today's names.

    Raises:
        ZooError: a newer zoo wrote the card, or a config in it is nested too deeply.
    """
    check_version(content, CARD, where)
    configs = {key: current_config(content[key], where) for key in CONFIGS if key in content}
    with_fit(configs)
    return {**content, **configs, "format": CARD}


def with_fit(configs: dict[str, Any]) -> None:
    """Add how pictures are fitted to the preprocessing of an older card, by the name of its data set."""
    preprocess, data = configs.get("preprocess"), configs.get("data")
    if not (isinstance(preprocess, Mapping) and isinstance(data, Mapping)):
        return
    if preprocess.get("_target_") == "zoo.data.preprocess.Preprocess" and "fit" not in preprocess:
        name = data.get("name")
        configs["preprocess"] = {**preprocess, "fit": FITS.get(name, "resize") if isinstance(name, str) else "resize"}


def current_config(config: Any, where: str) -> Any:
    """A config of plain values with today's targets and arguments, at every depth.

    Raises:
        ZooError: the config is nested more than ``DEEPEST`` levels deep, as one that contains itself is.
    """
    done: dict[int, Any] = {}  # by id, so that a part that occurs in several places is converted once

    def current(node: Any, depth: int) -> Any:
        if not isinstance(node, (Mapping, list, tuple)):
            return node
        if depth > DEEPEST:
            raise ZooError(f"{where} is damaged: a config in it is nested more than {DEEPEST} levels deep")
        if id(node) not in done:
            if isinstance(node, Mapping):
                done[id(node)] = current_call({key: current(value, depth + 1) for key, value in node.items()})
            else:
                done[id(node)] = [current(value, depth + 1) for value in node]
        return done[id(node)]

    return current(config, 1)


def current_call(node: dict[str, Any]) -> dict[str, Any]:
    """One node of a config with today's names; a node without a target is returned unchanged."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return node
    target = TARGETS.get(target, target)
    arguments = ARGUMENTS.get(target, {})
    named = {arguments.get(key, key): value for key, value in node.items()}
    named.pop(None, None)
    return {**named, "_target_": target}  # type: ignore[dict-item]


def current_tensors(tensors: dict[str, Any], config: Any, prefix: str = "") -> dict[str, Any]:
    """Rename tensors, or whatever else is stored under tensors' names, to today's names.

    Args:
        config: the config of the tensors' model or task, with today's names; only its target is used.
        prefix: what precedes the names, such as "model." in a checkpoint; names without it are left unchanged.
    """
    target = config.get("_target_") if isinstance(config, Mapping) else None
    layers = TENSORS.get(target, {}) if isinstance(target, str) else {}
    if not layers:
        return tensors
    return {current_name(name, layers, prefix): value for name, value in tensors.items()}


def current_name(name: str, layers: Mapping[str, str], prefix: str = "") -> str:
    own = str(name).removeprefix(prefix)
    fitting = [old for old in layers if own == old or own.startswith(f"{old}.")]
    if not fitting or not str(name).startswith(prefix):
        return name
    old = max(fitting, key=len)
    return prefix + layers[old] + own[len(old) :]


def current_checkpoint(content: Any, where: str) -> Any:
    """The content of a file written by ``torch.save``; a checkpoint of the zoo gets today's format and names.

    Raises:
        ZooError: a newer zoo wrote the checkpoint, or a config in it is nested too deeply.
    """
    if not isinstance(content, dict) or not content.keys() & {"config", "card"}:
        return content  # weights that another program saved
    check_version(content, CHECKPOINT, where)
    content = {**content, "format": CHECKPOINT}
    if "config" in content:
        content["config"] = with_named_loggers(current_config(content["config"], where))
    if isinstance(content.get("card"), Mapping):
        content["card"] = current_card(content["card"], where)
    configs = next((c for c in (content.get("config"), content.get("card")) if isinstance(c, Mapping)), {})
    for key in ("state_dict", "current_model_state"):  # the second: trained weights beside their average
        if isinstance(content.get(key), dict):
            of_model = current_tensors(content[key], configs.get("model"), "model.")
            content[key] = current_tensors(of_model, configs.get("task"))
    if isinstance(content.get("random"), list):
        content["random"] = [of_process(state, configs.get("task")) for state in content["random"]]
    if isinstance(content.get("callbacks"), Mapping):
        content["callbacks"] = by_file(by_class(content["callbacks"]), content.get("config"))
    return by_class(content)


def with_named_loggers(config: Any) -> Any:
    """A run's config with its loggers by name; older ones have a single logger, without a name."""
    logger = config.get("logger") if isinstance(config, Mapping) else None
    if not (isinstance(logger, Mapping) and "_target_" in logger):
        return config
    return {**config, "logger": {"tensorboard": logger}}


def of_process(state: Any, task: Any) -> Any:
    """The state of one process (``zoo.run.parallel.own_states``), with today's names of its metrics."""
    if not (isinstance(state, Mapping) and isinstance(state.get("metrics"), dict)):
        return state
    return {**state, "metrics": current_tensors(state["metrics"], task)}


def by_file(states: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The states of callbacks, with those of ``zoo.run.saving.Checkpoint`` under the name of the file that each writes.

    Lightning's ModelCheckpoint, which older configs named, stores its state under its settings. Lightning compares
    these keys with the run's callbacks before a callback can change them, so they are converted when a file is read.
    """
    states = dict(states)
    callbacks = config.get("callbacks") if isinstance(config, Mapping) else None
    for settings in callbacks.values() if isinstance(callbacks, Mapping) else ():
        if not (isinstance(settings, Mapping) and settings.get("_target_") == "zoo.run.saving.Checkpoint"):
            continue
        for key in [key for key in states if str(key).startswith("Checkpoint{'monitor': ")]:
            state = states[key]
            if isinstance(state, Mapping) and state.get("monitor") == settings.get("monitor"):
                states["Checkpoint" + repr({"filename": settings.get("filename")})] = states.pop(key)
                break
    return states


def by_class(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states of data and callbacks, which Lightning stores under names of classes, under today's names."""
    classes = {old.rpartition(".")[2]: new.rpartition(".")[2] for old, new in TARGETS.items()}

    def current(key: Any) -> Any:
        name, brace, arguments = str(key).partition("{")  # as in ModelCheckpoint{'monitor': …}
        return classes[name] + brace + arguments if name in classes else key

    return {current(key): state for key, state in states.items()}
