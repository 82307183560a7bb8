"""What a process does to files, programs and the network, as Python's audit events tell; for the tests of security."""

import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Events by which of their arguments are paths that are written, made or removed.
WRITES = {
    "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.mkdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,), "os.setxattr": (0,),
    "shutil.rmtree": (0,), "shutil.move": (0, 1), "shutil.copyfile": (1,), "shutil.unpack_archive": (1,),
    "tempfile.mkdtemp": (0,), "tempfile.mkstemp": (0,), "sqlite3.connect": (0,),
}  # fmt: skip
NEVER = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "os.startfile",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
    "ftplib.connect", "smtplib.connect", "webbrowser.open", "os.kill",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


class Audit:
    """Notes what is done outside of some folders, while it is ``on``.

    Args:
        allowed: folders that may be written to.
        secret: a folder of which nothing is read either.
        code: folders whose Python files may be run, beside Python's own and those of installed packages.
    """

    def __init__(self, allowed: list[Path], secret: Path, code: list[Path]):
        self.allowed = [os.path.realpath(path) for path in [*allowed, os.devnull]]
        self.secret = os.path.realpath(secret)
        kinds = ("stdlib", "platstdlib", "purelib", "platlib")
        self.code = [os.path.realpath(path) for path in [*code, *map(sysconfig.get_path, kinds)]]
        self.found: list[str] = []
        self.on = False
        self.local = threading.local()
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.on or getattr(self.local, "busy", False):
            return
        self.local.busy = True
        try:
            self.found += [f"{event} {shown!r}" for shown in self.complaints(event, arguments)]
        finally:
            self.local.busy = False

    def complaints(self, event: str, arguments: tuple) -> Iterator[Any]:
        if event in NEVER:
            yield arguments
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)):
                real = os.path.realpath(os.fsdecode(path))
                if within(real, [self.secret]) or (flags & WRITING and not within(real, self.allowed)):
                    yield real
        elif event in WRITES:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else None
            for place in WRITES[event]:
                if not within(self.parent_resolved(arguments[place], folder), self.allowed):
                    yield arguments[place]
        elif event == "exec":
            file = getattr(arguments[0], "co_filename", "")
            if not file.startswith("<") and not within(os.path.realpath(file), self.code):
                yield file
        elif event == "ctypes.dlopen":
            file = str(arguments[0] or "")
            if "/" in file and not within(os.path.realpath(file), self.code):
                yield file

    def parent_resolved(self, path: Any, descriptor: Any) -> str:
        """A path with its folder's links followed, and not its own: these calls act on a link itself."""
        if isinstance(path, int):
            return os.path.realpath(f"/proc/self/fd/{path}")
        path = os.fsdecode(path)
        if isinstance(descriptor, int) and descriptor >= 0:
            path = os.path.join(os.path.realpath(f"/proc/self/fd/{descriptor}"), path)
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.join(os.path.realpath(folder), name)


def within(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
