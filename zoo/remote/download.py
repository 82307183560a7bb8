"""One file over HTTP: bounded in size, resumed where it broke off, verified, and put in place only when it is whole.

Imports no torch. What has arrived of a file is kept beside it as ``.NAME.part``, so that a later try asks the server
only for the rest (``Range``, RFC 9110, section 14); a server that ignores this sends all of it again.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from zoo.config.files import MB
from zoo.console import Console, busy
from zoo.terminal import clean, say

TRIES = 3  # transfers in a row that may bring less than ENOUGH; an unreachable host is tried once
ENOUGH = 10_000  # bytes
MOST_TRIES = 100  # transfers of one file, however much they bring
PATIENCE = 15.0  # seconds to wait for a host's answer, or for more data
SLOWEST = 1000  # bytes per second, on average over PATIENCE, below which a transfer counts as broken off
CHUNK = 1 << 16


class Unavailable(Exception):
    """A source of files could not be reached, or did not provide the files."""


class BrokenOff(Exception):
    """A transfer ended too early; what has arrived is kept, and the rest can be asked for."""


class SafeRedirects(HTTPRedirectHandler):
    """Follows a redirection to http or https only, and never from https to http."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise HTTPError(req.full_url, code, f"a redirection to {newurl}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> OpenerDirector:
    """What opens an address, through the proxy of the environment if there is one."""
    return build_opener(SafeRedirects)


def unreachable(url: str) -> str | None:
    """Why a host cannot be reached, or None if it answers.

    The thread limits the total wait: a socket's own timeout applies to each address of a host separately, and not to
    the look-up of the addresses.
    """
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with opener().open(Request(url, method="HEAD"), timeout=PATIENCE):
                outcome.append(None)
        except HTTPError as error:  # the host answers; the download will report the error
            error.close()
            outcome.append(None)
        except (OSError, HTTPException) as error:
            outcome.append(str(getattr(error, "reason", error)))

    thread = Thread(target=ask, daemon=True)
    thread.start()
    with busy(f"asking {urlsplit(url).hostname}"):
        thread.join(PATIENCE)
    return outcome[0] if outcome else f"no answer in {PATIENCE:g} s"


def download_file(url: str, path: Path, digest: str | None, most: int) -> None:
    """Download a file, in several transfers if need be, to ``path``; nothing is at ``path`` before it is whole.

    Args:
        url: an address that begins with ``https://`` or ``http://``.
        digest: "sha256:…" or "md5:…"; None if the caller verifies the file.
        most: the largest allowed size in bytes.

    Raises:
        Unavailable: the host refuses, is too slow or unreachable, or what it sends is not the file with this digest,
            which is then removed. If transfers broke off, ``.NAME.part`` stays, and the next call resumes it.
        OSError: the file cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise Unavailable(f"{url} does not begin with https:// or http://")
    if digest and path.exists() and has_digest(path, digest):
        return
    part, barren = part_of(path), 0
    for _ in range(MOST_TRIES):
        before = size_of(part)
        try:
            certain = transfer(url, part, most, path.name)
            if digest is None or has_digest(part, digest):
                return put_in_place(part, path)
            part.unlink()
            if certain and not before:
                kind = digest.partition(":")[0]
                raise Unavailable(f"{path.name}: what came is not this file (its {kind} differs), and was removed")
            raise BrokenOff("what came in parts is not this file, and was removed")
        except BrokenOff as error:
            barren = 0 if size_of(part) >= before + ENOUGH else barren + 1
            if barren == TRIES:
                raise Unavailable(f"{path.name}: {error}") from None
            say(f"{path.name}: {error}; trying again")
        time.sleep(barren)
    raise Unavailable(f"{path.name}: it broke off {MOST_TRIES} times")


def transfer(url: str, part: Path, most: int, name: str) -> bool:
    """Fetch what is missing at the end of ``part``; returns whether the server said how long the file is.

    Raises:
        BrokenOff: the connection ended, or was too slow.
        Unavailable: the server refuses, or the file is larger than ``most`` bytes.
    """
    have = size_of(part)
    response = ask_for(url, part, have)
    with response:
        if response.status != 206:  # the server ignores Range and begins anew
            have = 0
        elif not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            part.unlink()
            raise BrokenOff("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if (total or 0) > most:
            part.unlink(missing_ok=True)
            raise Unavailable(f"{name}: it has {total:,} bytes, and at most {most:,} are allowed")
        with part.open("ab" if have else "wb") as file, progress(name, url, have, total) as advance:
            for chunk in chunks(response):
                have += len(chunk)
                if have > most:
                    break
                file.write(chunk)
                advance(len(chunk))
    if have > most:
        part.unlink()
        raise Unavailable(f"{name}: it has more than the {most:,} bytes that are allowed")
    if total is not None and have < total:
        raise BrokenOff(f"the transfer broke off after {have / MB:.1f} of {total / MB:.1f} MB")
    return total is not None


def ask_for(url: str, part: Path, have: int) -> HTTPResponse:
    """The server's answer to a request for a file, or for what follows its first ``have`` bytes."""
    headers = {"User-Agent": "reference-zoo", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return opener().open(Request(url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the file has no such part: what is here does not belong to it
            part.unlink()
            raise BrokenOff("what had arrived is not the beginning of this file, and was removed") from None
        if error.code in (408, 429) or error.code >= 500:
            raise BrokenOff(f"the server answers {error.code} {error.reason}") from None
        raise Unavailable(f"{part.name[1:].removesuffix('.part')}: {error.code} {error.reason}") from None
    except TimeoutError:
        raise BrokenOff(f"no answer in {PATIENCE:g} s") from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise BrokenOff(f"no answer in {PATIENCE:g} s") from None
        raise Unavailable(str(error.reason)) from None
    except (OSError, HTTPException) as error:
        raise BrokenOff(str(error) or type(error).__name__) from None


def chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The content of an answer as it arrives; raises ``BrokenOff`` if nothing arrives, or too little."""
    began, arrived = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except TimeoutError:
            raise BrokenOff(f"no data for {PATIENCE:g} s") from None
        except (OSError, HTTPException) as error:
            raise BrokenOff(str(error) or type(error).__name__) from None
        if not chunk:
            return
        yield chunk
        arrived += len(chunk)
        if (passed := time.monotonic() - began) > PATIENCE:
            if arrived < SLOWEST * passed:
                raise BrokenOff(f"only {arrived:,} bytes in {passed:.0f} s")
            began, arrived = time.monotonic(), 0


def part_of(path: Path) -> Path:
    """Where the beginning of a file is kept while it is downloaded."""
    return path.with_name(f".{path.name}.part")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def has_digest(path: Path, digest: str) -> bool:
    kind, _, known = digest.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest() == known


def put_in_place(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


@contextmanager
def progress(name: str, url: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar of a download on a terminal, else one line; gives the function that advances it by some bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console, host = Console(stderr=True), urlsplit(url).hostname
    if not console.is_terminal:
        size = f" ({total / MB:.1f} MB)" if total else ""
        say(f"{name}{size} from {host}{f', from byte {have:,} on' if have else ''}")
        yield lambda n: None
        return
    shown = TextColumn("{task.description}", markup=False)
    with Progress(shown, BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console) as bar:
        task = bar.add_task(clean(f"{name} from {host}"), total=total, completed=have)
        yield lambda n: bar.advance(task, n)
