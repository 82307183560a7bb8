"""The config stored in a checkpoint: what a resumed run takes from it, and what the user must repeat in the command.

Only numbers and choices are taken from the file. Callbacks, logger and trainer are built from this machine's configs,
which determine where they write. For model, task and data, the file may not give paths. See ``docs/security.md``.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from zoo.config.foreign import CONTROL, HOMES, check_name, check_trusted, hints_of, is_file, nodes, values
from zoo.config.overrides import override, plain
from zoo.config.own import may_be_proposed
from zoo.config.plain import check_plain
from zoo.errors import ZooError
from zoo.run.known import Known

REBUILT = ("callbacks", "logger", "trainer")
CHECKED = ("model", "task", "data", "optimizer", "scheduler")
PLACES = ("dirpath", "save_dir", "root_dir", "default_root_dir")  # always taken from this machine's configs
LOCAL = ("zoo.run.curves.Curves", "zoo.run.rows.Rows")  # loggers that write only into the run's folder
ELSEWHERE = "a logger that writes outside of the run's folder"  # the reason why its settings are to be said again
NAMES = ("filename", "name", "version", "sub_dir", "prefix")  # file names: from this machine's configs or the command

# The patterns, by key, of the texts that callbacks, logger and trainer may take from a file.
WORD = re.compile(r"[\w:,+-]{0,64}")
TEXTS = {
    **dict.fromkeys(("monitor", "metrics"), re.compile(r"[\w-]{1,64}(/[\w-]{1,64})?")),
    **dict.fromkeys(
        (
            "mode", "logging_interval", "interval", "duration", "annealing_strategy", "accelerator", "devices",
            "strategy", "precision", "max_time", "gradient_clip_algorithm", "deterministic", "profiler",
        ),
        WORD,
    ),
    "prompts": re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*"),
}  # fmt: skip


class Refusal(NamedTuple):
    """A value that is not taken from the file, with its dotted key, the reason, and whether the user may repeat it in
    the command instead.
    """

    key: str
    value: Any
    reason: str
    may_say: bool = True


# --- what a file may say ----------------------------------------------------------------------------------------------


def refusals(config: Mapping[str, Any], known: Known, said: Sequence[str] = ()) -> Iterator[Refusal]:
    """The values of a stored config that a resumed run does not take from the file.

    Args:
        config: the stored config.
        known: the configs of this machine.
        said: the dotted keys that the command line repeats.
    """
    for place, node in nodes(config):
        group = place.partition(".")[0]
        for key, value in values(node, place):
            if isinstance(value, str) and "${" in value:
                yield Refusal(key, value, "an interpolation", may_say=False)
            elif group in REBUILT + CHECKED and key not in said:
                yield from refusal(group, key, value, node, known)
            elif group not in REBUILT + CHECKED and is_special(key):
                # nothing is built from the other groups, but special keys are refused there too
                yield Refusal(key, value, "which is no plain argument", may_say=False)
            elif value is not None and not isinstance(value, (str, int, float, bool)):
                yield Refusal(key, value, "no plain value", may_say=False)


def refusal(group: str, key: str, value: Any, node: Mapping[str, Any], known: Known) -> Iterator[Refusal]:
    """Yield a refusal if the value at a key of a node is not taken from the file.

    Args:
        group: the top-level key of the config, such as "callbacks".
        key: the dotted key of the value.
        value: the value.
        node: the mapping that holds the value.
        known: the configs of this machine.
    """
    place, name = argument(key)
    target = node.get("_target_")
    templates = known.templates(place, target)
    if group == "logger" != place and templates and target not in LOCAL and (name == "_target_" or not is_special(key)):
        if not any(name in t and t[name] == value for t in templates) or name == "_target_":
            yield Refusal(key, value, ELSEWHERE)
    elif name == "_target_":
        if not is_named(value, group, templates):
            yield Refusal(key, value, "which no config here names")
    elif is_special(key):
        always = name == "_partial_" and value is True and group in ("optimizer", "scheduler")
        if not always and not any(name in t and t[name] == value for t in templates):
            yield Refusal(key, value, "which is no plain argument", may_say=False)
    elif key == "trainer.devices" and too_many(value):
        yield Refusal(key, value, "more processes than this machine has processors")
    elif value is None or isinstance(value, (bool, int, float)):
        if group == "trainer" and place == group and not any(name in t for t in known.templates(place)):
            yield Refusal(key, value, "an argument that no trainer's config here has")
    elif not isinstance(value, str):
        yield Refusal(key, value, "no plain value", may_say=False)
    elif group in CHECKED:
        hints = hints_of(str(target)) if is_named(target, group, templates) else {}  # others are not imported
        if is_file(key, value, hints.get(name, Any)):
            yield Refusal(key, value, "a path")
    elif name not in PLACES and not is_known_text(name, value, templates):
        yield Refusal(key, value, "a name of files" if name in NAMES else "a text")


def too_many(devices: Any) -> bool:
    """Whether a file asks for so many processes that they could overload this machine."""
    asked = str(devices)
    return asked.isdecimal() and (len(asked) > 6 or int(asked) > max(os.cpu_count() or 1, 16))


def is_special(key: str) -> bool:
    """Whether Hydra or OmegaConf would treat an argument as a special key, like ``_target_``."""
    name = argument(key)[1]
    return name.startswith("_") and name.endswith("_")


def argument(key: str) -> tuple[str, str]:
    """Split a dotted key into the place of its mapping and the name of the argument, without indices at its end."""
    parts = key.split(".")
    while parts[-1].isdigit() and len(parts) > 1:
        parts.pop()
    return ".".join(parts[:-1]), parts[-1]


def is_known_text(name: str, value: str, templates: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a text is what this machine's configs have at that place, or is harmless for this key (see ``TEXTS``)."""
    texts: list[Any] = [t.get(name) for t in templates]
    if any(value in text if isinstance(text, list) else value == text for text in texts):
        return True
    return name not in NAMES and name in TEXTS and TEXTS[name].fullmatch(value) is not None


def is_named(target: Any, group: str, templates: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file may name this class: this machine's configs name it at that place, or it belongs to the zoo."""
    return isinstance(target, str) and (bool(templates) or is_at_home(target, group))


def is_at_home(target: str, group: str) -> bool:
    """Whether a class belongs to the zoo, or to torch's layers, and is allowed in this group."""
    try:
        check_trusted(target, homes=HOMES.get(group, ()))
    except ZooError:
        return False
    return True


# --- the config of the resumed run ------------------------------------------------------------------------------------


def taken(config: Mapping[str, Any], known: Known, said: Sequence[str], where: str) -> dict[str, Any]:
    """The config of a resumed run: the stored config, with this machine's own folders in it.

    Args:
        config: the stored config.
        known: the configs of this machine.
        said: the dotted keys that the command line repeats.
        where: the name of the file, for messages.

    Raises:
        ZooError: the config has values that are not taken from a file; the message says what to add to the command.
    """
    if not isinstance(config, Mapping):
        raise ZooError(f"{where} was not written by a training of this zoo, so it cannot be resumed")
    check_plain(config, f"{where}: its config")
    config = {key: value for key, value in config.items() if key not in ("resume", "hydra", "defaults")}
    if isinstance(config.get("name"), str) and "name" not in said:
        check_name(config["name"], f"{where}: name")
    complain(list(refusals(config, known, said)), where)
    found = deepcopy(config)
    for group in REBUILT:
        if isinstance(config.get(group), Mapping):
            found[group] = rebuilt(group, config[group], known)
    return found


def rebuilt(place: str, stored: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """A node of this machine's configs, with the numbers and choices from the file."""
    templates = known.templates(place, stored["_target_"]) if "_target_" in stored else []
    own = templates[0] if templates else {}
    found = {key: deepcopy(value) for key, value in own.items() if key in stored or key in PLACES}
    for key, value in stored.items():
        if key in PLACES or (key in NAMES and value is None):
            continue
        found[key] = rebuilt(f"{place}.{key}", value, known) if isinstance(value, Mapping) else deepcopy(value)
    return found


def complain(found: Sequence[Refusal], where: str) -> None:
    """Raise a ``ZooError`` of one line if anything is refused."""
    if not found:
        return
    worst = next((r for r in found if not may_be_said(r)), None)
    if worst is not None:
        raise ZooError(
            f"{where} asks for {worst.key}={plain(worst.value)}, {worst.reason}, so it is not run; docs/security.md "
            "says what a checkpoint may name"
        )
    again = " ".join(override(r.key, r.value) for r in found)
    shown = ", ".join(f"{r.key}={plain(r.value)} ({r.reason})" for r in found[:3]) + (", …" if len(found) > 3 else "")
    raise ZooError(f"{where} asks for {shown}, which is not taken from a file; if you know it, say it again: {again}")


def may_be_said(refused: Refusal) -> bool:
    """Whether a message may propose to repeat a value: not if that runs a library's code or has control characters."""
    if not refused.may_say or not isinstance(refused.value, (str, int, float, bool, type(None))):
        return False
    if CONTROL.search(f"{refused.key}{refused.value}") or not re.fullmatch(r"[\w.]+", refused.key):
        return False
    return not refused.key.endswith("_target_") or refused.reason == ELSEWHERE or may_be_proposed(str(refused.value))


def said_again(config: Mapping[str, Any], known: Known) -> list[str]:
    """The overrides, besides ``resume=``, with which a command can resume a run of this config, quoted for a shell."""
    return [override(refused.key, refused.value) for refused in refusals(config, known)]
