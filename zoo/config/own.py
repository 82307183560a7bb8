"""The user's own modules in the current folder: found by the names that the user has said, and by no other.

The zoo never puts the current folder on ``sys.path``: torch and others try to import a dozen packages that may be
absent, and would run a file of such a name that lies here by chance or by a stranger's will. Imports no torch.
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

TARGET = re.compile(r"""\b_target_["']?\s*[:=]\s*["']?([\w.]+)""")  # of a config, and of the command line


class OwnModules:
    """Finds modules in the current folder, after all other finders, so that none hides an installed package.

    It answers for the names that ``allow`` was given, and those are the user's words: ``--trust``, or a ``_target_`` of
    ./configs or of the command line. A module that was found so may import its neighbours in the folder. What an
    installed package tries to import is not looked for here.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.found: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not (fullname in self.names or importing_module() in self.found):
            return None  # a submodule lies in its package's own folder, which the finders before this one know
        try:
            spec = PathFinder.find_spec(fullname, [os.getcwd()])
        except OSError:  # the current folder is gone
            return None
        if spec is not None:
            self.found.add(fullname)
        return spec


own_modules = OwnModules()


def importing_module() -> str:
    """The top-level name of the module whose import statement is being carried out."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") in (__name__, "importlib") or "<frozen importlib" in frame.f_code.co_filename
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def allow(targets: Iterable[str]) -> None:
    """Let the modules of these dotted names be found in the current folder."""
    own_modules.names.update(target.partition(".")[0] for target in targets)
    if own_modules not in sys.meta_path:
        sys.meta_path.append(own_modules)


def allow_said(arguments: Sequence[str], folders: Iterable[Path]) -> None:
    """Let what the command line and the user's own configs call ``_target_`` be found in the current folder."""
    configs = (path.read_text("utf-8", "replace") for folder in folders for path in folder.glob("**/*.yaml"))
    allow(name for text in (*arguments, *configs) for name in TARGET.findall(text))


def is_installed(name: str) -> bool:
    """Whether a dotted name is of the standard library or of an installed package. Nothing is imported."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == PACKAGE.name:
        return True
    try:
        spec = find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):  # a module that was loaded without a spec
        return True
    return spec is not None and not lies_here(spec)


def may_be_proposed(target: str) -> bool:
    """Whether an error may advise to trust a target: one of a module of the user's own, or of nothing that is known.

    That of a library never: my_module.os.system is os.system.
    """
    *modules, name = target.split(".")
    return bool(modules) and all(map(str.isidentifier, [*modules, name])) and not any(map(is_installed, modules))


def lies_here(spec: ModuleSpec) -> bool:
    """Whether a module is a file of the current folder, or a package in it."""
    folders = spec.submodule_search_locations
    place = next(iter(folders), None) if folders is not None else spec.origin
    return place is not None and Path(place).resolve().parent == Path.cwd()


def leave_current_folder() -> None:
    """Take the current folder off ``sys.path`` where ``python -m`` has put it first, unless the zoo itself lies there:
    what ``python -P`` does.
    """
    by_name = sys.modules["__main__"].__spec__ is not None
    if by_name and sys.path and Path(sys.path[0]).resolve() == Path.cwd() != PACKAGE.parent:
        del sys.path[0]
