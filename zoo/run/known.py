"""What the configs of this machine say, place by place; a config that a checkpoint has is compared with them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.config.foreign import nodes


class Known:
    """The mappings in the configs of this machine, by their places: the zoo's and the user's own.

    Args:
        folders: of configs, the zoo's first.
    """

    def __init__(self, folders: Sequence[Path]):
        self.nodes: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}  # by their places without names
        for folder in folders:
            for path in sorted(folder.glob("**/*.yaml")):
                for place, node in nodes(with_bases(read_yaml(path), folders), package(path, folder)):
                    self.nodes.setdefault(general(place), []).append((place, node))

    def templates(self, place: str, target: Any = None) -> list[Mapping[str, Any]]:
        """Those at a place; of callbacks those of any name, the same name's first. With a target, those of it."""
        alike = self.nodes.get(general(place), [])
        found = [node for at, node in alike if at == place] + [node for at, node in alike if at != place]
        return [node for node in found if target is None or node.get("_target_") == target]


def with_bases(content: Any, folders: Sequence[Path]) -> Any:
    """A config with the content of its bases: the entries "/base/NAME@PLACE" of its ``defaults``, where PLACE is a key
    of the config, or "_here_" for the config itself.
    """
    if not isinstance(content, dict) or not isinstance(content.get("defaults"), list):
        return content
    found: dict[str, Any] = {}
    for entry in content["defaults"]:
        if not isinstance(entry, str) or not (named := re.fullmatch(r"/(base/\w+)@(\w+)", entry)):
            continue
        base, place = named.groups()
        for path in (path for folder in folders if (path := folder / f"{base}.yaml").is_file()):
            content_of_base = with_bases(read_yaml(path), folders)
            found = merged(found, content_of_base if place == "_here_" else {place: content_of_base})
    return merged(found, content)


def merged(base: Any, own: Any) -> Any:
    """One config over another, key by key."""
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return {**base, **{key: merged(base.get(key), value) for key, value in own.items()}}


def read_yaml(path: Path) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, OSError, UnicodeDecodeError, ValueError):  # Hydra says what is wrong with one that is chosen
        return {}


def package(path: Path, folder: Path) -> str:
    """The dotted place of a config file's content: its folder, or what its header says."""
    group = ".".join(path.relative_to(folder).parts[:-1])
    with path.open(encoding="utf-8", errors="replace") as file:
        header = re.match(r"#\s*@package\s+(\S+)", file.readline())
    return header[1].replace("_group_", group).replace("_global_", "").strip(".") if header else group


def general(place: str) -> str:
    """A place without the names that a user gives: of callbacks, and the numbers in lists."""
    parts = ["*" if part.isdigit() else part for part in place.split(".")]
    return ".".join([parts[0], *(["*"] if parts[0] == "callbacks" and len(parts) > 1 else parts[1:2]), *parts[2:]])
