"""Errors of a command in one line for its user: what is wrong, what is valid and what to do."""

import difflib
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from zoo import terminal
from zoo.config.checks import choices, unknown
from zoo.config.overrides import hydra_value, shell_word
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.run.commands import command
from zoo.run.processes import is_main_process

ONE_NUMBER = "Expected more than 1 value per channel when training"  # torch's message from batch norm


def say(error: Exception) -> None:
    """Print an error as one line on stderr, and for an unforeseen error how to see its traceback."""
    if getattr(error, "first", is_main_process(of="machine")):  # the cause may be on one of several machines
        line, foreseen = message(error)
        terminal.say(f"error: {line}")
        if not foreseen:
            terminal.say(f"(the traceback: ZOO_TRACEBACK=1 {command('train')} …)")
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(1)  # torchrun ends all processes when one ends: wait until the message is printed


def message(error: Exception, said: Sequence[str] | None = None) -> tuple[str, bool]:
    """The line to print for an error, and whether it is of a kind that the user can correct.

    Args:
        said: the overrides of the run; None for those of the command line.
    """
    cause: BaseException | None = error
    while cause is not None:  # Hydra may have wrapped a ZooError
        if isinstance(cause, ZooError):
            return str(cause), True
        cause = cause.__cause__ or cause.__context__
    if type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        where = re.search(r"full_key: (\S+)", str(error))
        reason = error.__cause__
        plain = isinstance(reason, (ValueError, ImportError)) or type(reason).__name__ == "MisconfigurationException"
        line = one_line(str(reason)) if plain else f"{type(reason).__name__}: {one_line(str(reason))}"
        return f"{where[1]}: {line}" if where else line, plain
    if type(error).__name__ == "MisconfigurationException":  # from Lightning, about the Trainer's arguments
        return f"trainer: {one_line(str(error))}", True
    if type(error).__module__.startswith(("hydra", "omegaconf", "antlr4")) or "Config group override" in str(error):
        overrides = [a for a in sys.argv[1:] if not a.startswith("-")] if said is None else said
        return explain(error, overrides, base_config(overrides)), True
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename or '')}: {error.strerror}", True
    if re.search(r"[Gg]loo|NCCL|ProcessGroup|Connection (closed|reset) by peer", str(error)):
        return f"another process of this run was ended; to go on: {command('train')} resume=last", True
    if ONE_NUMBER in str(error):
        return "batch normalisation got a batch of one example in training: set data.batch_size to 2 or more", True
    if re.search(r"DTensor|[Ss]harding (strategy|propagation)", str(error)):
        return f"trainer=fsdp: torch fails with sharded weights ({one_line(str(error))}); use trainer=ddp", True
    return f"{type(error).__name__}: {one_line(str(error))}", False


def one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def base_config(overrides: Sequence[str]) -> dict[str, Any] | None:
    """The config composed from the overrides that choose groups, to name its keys in a message; None if that fails."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from zoo.run.compose import composed, hydra_of_its_own, own_configs

    folders = [CONFIGS, *own_configs()]
    groups = [o for o in overrides if o[:1].isalpha() and any((f / o.partition("=")[0]).is_dir() for f in folders)]
    with hydra_of_its_own():
        try:
            return OmegaConf.to_container(composed(groups), resolve=False)  # type: ignore[return-value]
        except (HydraException, OmegaConfBaseException, ValueError):
            return None


def explain(error: Exception, overrides: Sequence[str], keys: Mapping[str, Any] | None) -> str:
    """Hydra's message about a wrong command line, rewritten as one line that says what is valid.

    Args:
        overrides: the overrides on the command line.
        keys: the config composed without overrides of single values, for the names of its keys.
    """
    text = str(error)
    if found := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = found[1].rpartition("/")
        listed = re.findall(r"^\s+(\S+)$", text.partition("Available options")[2], flags=re.M)
        if group == "hydra/launcher" and option.startswith("submitit") and "submitit_local" not in listed:
            return f"{group}={option}: it needs an extra: pip install 'reference-zoo[submitit]'"
        if group == "hydra/sweeper" and option == "optuna":
            return f"{group}={option}: it needs an extra: pip install 'reference-zoo[optuna]'"
        reason = f"no {group.replace('callbacks', 'callback')} is named '{option}'"
        return str(unknown(f"{group}={option}", option, listed or choices(group), reason))
    if found := re.search(r"Could not override '([^']+)'", text):
        return wrong_key(found[1], keys or {})
    bare = next((o for o in overrides if ("=" not in o and not o.startswith("~")) or o.startswith("=")), None)
    if bare is not None:
        return f"{bare}: not understood; write key=value"
    if "Config group override must be" in text:
        bad = next((o for o in overrides if o.endswith("=null")), " ".join(overrides))
        valid = choices(bad.partition("=")[0])
        nothing = f"; for nothing, {bad.partition('=')[0]}=none" if "none" in valid else ""
        return f"{bad}: it takes the name of a choice; valid: {', '.join(valid)}{nothing}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, value = found[1].partition("=")
        return f"{found[1]}: a list needs brackets, '{key}=[{value}]'; to run the values one after the other, add -m"
    if found := re.search(r"Interpolation key '(data\.\w+)' not found\s+full_key: (model\.\w+)", text):
        lacks = f"this model needs {found[1]}, which this data does not have"
        return f"{found[2]}: {lacks}; choose another model or other data"
    if found := re.search(r"Interpolation key 'task\.(monitor|mode)' not found", text):
        return (
            f"the task's config has no {found[1]}: add the metric by which the best weights are chosen, and whether "
            f"a higher or a lower value is better, as in 'monitor: val/loss' and 'mode: min'"
        )
    if "LexerNoViableAlt" in text or "OverrideParse" in type(error).__name__ or "mismatched input" in text:
        bad = getattr(error, "override", None) or next((o for o in overrides if o in text), " ".join(overrides))
        return not_understood(bad)
    return one_line(text)


def not_understood(override: str) -> str:
    """Say how to write an override that Hydra cannot parse: as a quoted text, if it is meant as one."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"[+~]{0,2}[\w./@]+", key) and value[:1] not in ("[", "{", "'", '"') and value:
        needs = "a value with blanks, brackets or other special characters needs quotes"
        return f"{override}: not understood; {needs}: {shell_word(f'{key}={hydra_value(value)}')}"
    return f"{override}: not understood; write key=value, and quote lists: 'init.skip=[head]'"


# What other programs call a setting
SYNONYMS = {
    "accelerators": "accelerator", "batch": "batch_size", "bs": "batch_size", "cuda": "accelerator",
    "device": "accelerator", "epoch": "max_epochs", "epochs": "max_epochs", "gpu": "accelerator", "gpus": "devices",
    "iterations": "max_steps", "learning_rate": "lr", "num_epochs": "max_epochs", "steps": "max_steps",
    "wd": "weight_decay",
}  # fmt: skip


def places(name: str, node: Any, prefix: str = "") -> list[str]:
    """The dotted keys in a config of the values with this name, or with the name that the zoo has for it."""
    own = SYNONYMS.get(name.lower(), name)
    found: list[str] = []
    for key, value in node.items() if isinstance(node, Mapping) else ():
        place = f"{prefix}{key}"
        if key == own and not str(key).startswith("_"):
            found.append(place)
        found += places(name, value, f"{place}.")
    return found


def near(name: str, valid: Iterable[str]) -> bool:
    return bool(difflib.get_close_matches(name, [v for v in map(str, valid) if not v.startswith("_")], 1, 0.6))


def check_flags(arguments: Sequence[str]) -> None:
    """Raise a ``ZooError`` for a word with dashes that is no flag of Hydra's, such as ``--lr``."""
    from hydra._internal.utils import get_args_parser

    flags = get_args_parser()._option_string_actions
    for word in arguments:
        flag, _, value = word.partition("=")
        if word.startswith("-") and flag not in flags and not flag[1:2].isdigit():
            name = flag.lstrip("-").replace("-", "_")
            config = base_config([o for o in arguments if not o.startswith("-")]) or {}
            key = name if "." in name else next(iter(places(name, config)), "key")
            raise ZooError(f"{word}: settings are written without dashes: {key}={value or 'VALUE'}")


def wrong_key(key: str, node: Any) -> str:
    """Say which part of a dotted key is not in the config, and which keys are valid in its place."""
    whole = node
    path = key.replace("@", ".").split(".")
    for depth, part in enumerate(path):
        if not isinstance(node, Mapping) or part not in node:
            prefix = ".".join(path[:depth])
            reason = f"nothing is named {part} in {prefix}" if prefix else "no such key"
            if not (isinstance(node, Mapping) and near(part, node)) and (elsewhere := places(part, whole)):
                return f"{key}: {reason}; did you mean {' or '.join(elsewhere[:3])}?"
            valid = [*map(str, node)] if isinstance(node, Mapping) else []
            return str(unknown(key, part, valid if prefix else [*valid, "experiment", "debug"], reason, prefix))
        node = node[part]
    return f"{key}: it has no entries to change; add one, '+{key}.NAME=VALUE', as in '+task.lr_scale.conv1=0.1'"
