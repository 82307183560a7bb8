"""The contents of this machine's configs by place (dotted key); the config in a checkpoint is compared with them."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from zoo.config.foreign import nodes
from zoo.errors import ZooError


class Known:
    """All mappings in this machine's configs, those of the zoo and the user's own, by place.

    Args:
        folders: the config folders, the zoo's first.
    """

    def __init__(self, folders: Sequence[Path]):
        self.nodes: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}  # keys: see ``general``
        read = cache(read_yaml)  # a base is named by several configs
        for folder in folders:
            for path in sorted(folder.glob("**/*.yaml")):
                for place, node in nodes(with_bases(read(path), folders, read), package(path, folder)):
                    self.nodes.setdefault(general(place), []).append((place, node))

    def templates(self, place: str, target: Any = None) -> list[Mapping[str, Any]]:
        """The mappings at a place; for a callback those of all callbacks, with the same name first.

        Args:
            place: the dotted key of a mapping.
            target: if given, only mappings with this ``_target_`` are returned.
        """
        alike = self.nodes.get(general(place), [])
        found = [node for at, node in alike if at == place] + [node for at, node in alike if at != place]
        return [node for node in found if target is None or node.get("_target_") == target]


def with_bases(content: Any, folders: Sequence[Path], read: Callable[[Path], Any]) -> Any:
    """Add the contents of its bases to a config. A base is an entry "/base/NAME@PLACE" of its ``defaults``, where PLACE
    is a key of the config, or "_here_" for the config itself.
    """
    if not isinstance(content, dict) or not isinstance(content.get("defaults"), list):
        return content
    found: dict[str, Any] = {}
    for entry in content["defaults"]:
        if not isinstance(entry, str) or not (named := re.fullmatch(r"/(base/\w+)@(\w+)", entry)):
            continue
        base, place = named.groups()
        for path in (path for folder in folders if (path := folder / f"{base}.yaml").is_file()):
            content_of_base = with_bases(read(path), folders, read)
            found = merged(found, content_of_base if place == "_here_" else {place: content_of_base})
    return merged(found, content)


def merged(base: Any, own: Any) -> Any:
    """Merge two configs recursively; ``own`` overrides ``base``."""
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return {**base, **{key: merged(base.get(key), value) for key, value in own.items()}}


def read_yaml(path: Path) -> Any:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, OSError, UnicodeDecodeError, ValueError):  # Hydra reports it if the config is used
        return {}


def package(path: Path, folder: Path) -> str:
    """The place at which Hydra puts a config file's content: its folder, or the package in its header."""
    group = ".".join(path.relative_to(folder).parts[:-1])
    with path.open(encoding="utf-8", errors="replace") as file:
        header = re.match(r"#\s*@package\s+(\S+)", file.readline())
    return header[1].replace("_group_", group).replace("_global_", "").strip(".") if header else group


def check_packages(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Raise a ``ZooError`` if an experiment in one of the folders lacks the header that puts its values at the top."""
    for override in overrides:
        group, _, name = override.lstrip("+").partition("=")
        if group in ("experiment", "debug"):
            for folder in folders:
                path = folder / group / f"{name}.yaml"
                if path.is_file() and package(path, folder):
                    raise ZooError(
                        f"{path}: write '# @package _global_' in its first line; without it the file's values stand "
                        f"under {group}, as in {group}.model, and no model, data or optimizer sees them"
                    )


def general(place: str) -> str:
    """A place with "*" for indices of lists and for the names of callbacks, which users choose."""
    parts = ["*" if part.isdigit() else part for part in place.split(".")]
    return ".".join([parts[0], *(["*"] if parts[0] == "callbacks" and len(parts) > 1 else parts[1:2]), *parts[2:]])
