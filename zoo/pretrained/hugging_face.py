"""Models in repositories on the Hugging Face hub, ``hf:owner/name`` or ``hf:owner/name@revision``, over plain HTTPS.

A repository written by ``zoo push`` has ``model.safetensors`` and the card ``model.json``. Both come from strangers:
from the card only numbers and choices are taken (``docs/security.md``), and the weights must have the sha256 that it
says. ``HF_ENDPOINT`` names another server with the same addresses.
"""

import json
import os
import re
from pathlib import Path
from urllib.parse import quote

from zoo.config.files import MB, read_file
from zoo.errors import ZooError
from zoo.paths import cache_root
from zoo.pretrained.card import CARD_BYTES, Card
from zoo.pretrained.on_demand import one_at_a_time
from zoo.remote.download import Unavailable, download_file, unreachable
from zoo.terminal import say

CARD, WEIGHTS = "model.json", "model.safetensors"
ANSWER_BYTES = 10 * MB  # the most that is read of the hub's description of a repository
PART = r"(?!\.)(?!.*\.\.)[\w.-]+"  # of a name: no path leads out of its folder
SOURCE = re.compile(rf"hf:({PART})/({PART})(?:@((?:{PART}/)*{PART}))?", re.ASCII)


def fetch_repository(source: str) -> Path:
    """The card of a model on the hub, with its weights beside it, in the user's cache.

    Args:
        source: "hf:owner/name", with "@" and a branch, a tag or a commit, if not the main branch is meant. A whole
            commit (40 hexadecimal digits) is pinned: nobody can change what it names, and the hub is asked only once.

    Raises:
        ZooError: the source is not written so; the hub cannot be reached, or has no such model.
    """
    if (found := SOURCE.fullmatch(source)) is None:
        raise ZooError(f"{source} is no model on the hub; write hf:owner/name or hf:owner/name@revision")
    owner, name, revision = found[1], found[2], found[3] or "main"
    folder = cache_root() / "hub" / f"{owner}--{name}"
    try:
        commit = revision if is_commit(revision) else current_commit(f"{owner}/{name}", revision, folder)
        card = folder / commit / CARD
        card.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(card):
            bring(f"{owner}/{name}", commit, card)
    except Unavailable as error:
        raise ZooError(f"{source} could not be fetched from {endpoint()} ({error})") from None
    except OSError as error:
        raise ZooError(f"{source} cannot be stored in {folder}: {error.strerror or error}") from None
    return card


def endpoint() -> str:
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    if not address.startswith(("https://", "http://")):
        raise ZooError(f"HF_ENDPOINT={address}: give an address that begins with https:// or http://")
    return address


def is_commit(revision: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def current_commit(repository: str, revision: str, folder: Path) -> str:
    """The commit that a branch or a tag names now; if the hub cannot be reached, the one that it named last."""
    known = folder / "revisions" / f"{quote(revision, safe='')}.json"
    new = known.with_name(f".{known.name}-{os.getpid()}")
    known.parent.mkdir(parents=True, exist_ok=True)
    url = f"{endpoint()}/api/models/{repository}/revision/{quote(revision, safe='')}"
    if (reason := unreachable(url)) is not None:
        if not known.exists():
            raise Unavailable(reason)
        say(f"note: {endpoint()} cannot be reached ({reason}); taking what {revision} of {repository} was last time")
    else:
        try:
            download_file(url, new, None, ANSWER_BYTES)
        except Unavailable as error:
            refused = re.search(r": (401|403|404) ", str(error))
            told = f"there is no public model {repository} with a revision {revision}" if refused else str(error)
            raise Unavailable(told) from None
        os.replace(new, known)
    try:
        commit = json.loads(read_file(known, ANSWER_BYTES))["sha"]
    except (ValueError, LookupError, TypeError, RecursionError):
        commit = None
    if not isinstance(commit, str) or not is_commit(commit):
        known.unlink()
        raise Unavailable(f"its answer about {repository} does not name a commit")
    return commit


def bring(repository: str, commit: str, card: Path) -> None:
    """Download a repository's card and weights, unless they are there; neither is in place before it is whole."""
    from zoo.data.decoded import total_memory

    weights = card.with_name(WEIGHTS)
    if card.exists() and weights.exists():
        return
    place = f"{endpoint()}/{repository}/resolve/{commit}"
    if (reason := unreachable(f"{place}/{CARD}")) is not None:
        raise Unavailable(reason)
    try:
        download_file(f"{place}/{CARD}", card, None, CARD_BYTES)
    except Unavailable as error:
        if ": 404 " in str(error):
            raise Unavailable(
                f"{repository} has no {CARD}, which zoo push writes: it is no model of this zoo"
            ) from None
        raise
    try:
        known = Card.read(card)
        if re.fullmatch("[0-9a-f]{64}", known.sha256) is None:
            raise ZooError(f"{card} is not a card of weights: it has no sha256")
    except ZooError:
        card.unlink()
        raise
    memory = total_memory() or 10**15
    download_file(f"{place}/{WEIGHTS}", weights, f"sha256:{known.sha256}", min(known.size or memory, memory))
