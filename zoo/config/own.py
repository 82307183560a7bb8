"""Importing the user's own modules from the current folder: only those that the user has named.

The zoo never puts the current folder on ``sys.path``: torch and other packages try to import a dozen optional packages,
and would execute a file of such a name in the current folder, whoever put it there. Imports no torch.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from zoo.paths import PACKAGE

TARGET = re.compile(r"""\b_target_["']?\s*[:=]\s*["']?([\w.]+)""")  # in a config, or on the command line


class OwnModules:
    """Finds modules in the current folder, after all other finders, so that no file there hides an installed package.

    It only finds names that were passed to ``allow``, which come from the user: from ``--trust``, or from a
    ``_target_`` in ./configs or on the command line. A module found in this way may import other modules in the same
    folder. Imports by installed packages are not looked for here.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.found: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not (fullname in self.names or importing_module() in self.found):
            return None  # submodules are found in their package's folder by the standard finders
        try:
            spec = PathFinder.find_spec(fullname, [os.getcwd()])
        except OSError:  # the current folder is gone
            return None
        if spec is not None:
            self.found.add(fullname)
        return spec


own_modules = OwnModules()


def importing_module() -> str:
    """The top-level name of the module whose import statement is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") in (__name__, "importlib") or "<frozen importlib" in frame.f_code.co_filename
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def allow(targets: Iterable[str]) -> None:
    """Allow the modules of these dotted names to be found in the current folder."""
    own_modules.names.update(target.partition(".")[0] for target in targets)
    if own_modules not in sys.meta_path:
        sys.meta_path.append(own_modules)


def allow_said(arguments: Sequence[str], folders: Iterable[Path]) -> None:
    """Allow what the command line and the user's own configs name as ``_target_`` to be found in the current folder."""
    configs = (path.read_text("utf-8", "replace") for folder in folders for path in folder.glob("**/*.yaml"))
    allow(name for text in (*arguments, *configs) for name in TARGET.findall(text))


def is_installed(name: str) -> bool:
    """Whether a dotted name belongs to the standard library or an installed package. Nothing is imported."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == PACKAGE.name:
        return True
    try:
        spec = find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):  # a module that was loaded without a spec
        return True
    return spec is not None and not lies_here(spec)


def may_be_proposed(target: str) -> bool:
    """Whether an error message may suggest to trust a target: if no part of its name is a library's.

    So it is never suggested to trust my_module.os.system, which is os.system.
    """
    *modules, name = target.split(".")
    return bool(modules) and all(map(str.isidentifier, [*modules, name])) and not any(map(is_installed, modules))


def lies_here(spec: ModuleSpec) -> bool:
    """Whether a module is a file or a package directly in the current folder."""
    folders = spec.submodule_search_locations
    place = next(iter(folders), None) if folders is not None else spec.origin
    return place is not None and Path(place).resolve().parent == Path.cwd()


def leave_current_folder() -> None:
    """Remove the current folder from ``sys.path`` if ``python -m`` has put it first, as ``python -P`` would.

    It stays if the zoo itself lies in that folder.
    """
    by_name = sys.modules["__main__"].__spec__ is not None
    if by_name and sys.path and Path(sys.path[0]).resolve() == Path.cwd() != PACKAGE.parent:
        del sys.path[0]
