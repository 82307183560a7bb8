"""Where the files of a release are that do not come with the installed package: large weights, and cifar10_small.

``$ZOO_WEIGHTS`` names a folder or a mirror; else it is the address that was written into the package when the release
was built (``hatch_build.py``). All files lie flat in one folder, as a release on a web server, on GitHub or in a hub's
repository can hold them. Imports no torch.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

from zoo.errors import ZooError
from zoo.paths import PACKAGE
from zoo.remote.download import Unavailable, download_file, part_of, put_in_place, unreachable

ADDRESS = PACKAGE / "address.txt"  # exists only in a package that was built with $ZOO_RELEASE_URL


def place() -> Path | str | None:
    """The folder, or the address of the folder, with the files of the release; None if none is known.

    Raises:
        ZooError: ``$ZOO_WEIGHTS`` is neither a folder nor an address that begins with https:// or http://.
    """
    named = os.environ.get("ZOO_WEIGHTS", "")
    if "://" in named:
        if not named.lower().startswith(("https://", "http://")):
            raise ZooError(f"ZOO_WEIGHTS={named}: give a folder, or an address that begins with https:// or http://")
        return named.rstrip("/")
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise ZooError(f"ZOO_WEIGHTS={named}: there is no such folder; give a folder, or an address https://…")
        return folder
    return ADDRESS.read_text(encoding="utf-8").strip().rstrip("/") or None if ADDRESS.exists() else None


def fetch_released(file: str, path: Path, digest: str, size: int) -> None:
    """Bring a file of the release to ``path``, which must be in a folder of its own use.

    Args:
        digest: "sha256:…" of the file.
        size: its size in bytes, which is the most that is fetched.

    Raises:
        Unavailable: no place is known, or it does not provide the file.
        OSError: the file cannot be written.
    """
    match place():
        case None:
            raise Unavailable(f"{file} is not part of this installation, which names no address to fetch it from")
        case Path() as folder:
            if not (folder / file).is_file():
                raise Unavailable(f"{folder} (ZOO_WEIGHTS) has no {file}")
            part = part_of(path)
            shutil.copyfile(folder / file, part)
            put_in_place(part, path)
        case str() as address:
            url = f"{address}/{quote(file)}"
            if (reason := unreachable(url)) is not None:
                raise Unavailable(f"{address}: {reason}")
            try:
                download_file(url, path, digest, size)
            except Unavailable as error:
                raise Unavailable(f"{address}: {error}") from None
