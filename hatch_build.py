"""Which weights go into a wheel or an sdist, and the address of the others; run by hatchling, the build backend.

``pip install .`` in a clone takes all along. A release (``make release URL=…``) sets two variables: ``ZOO_WHEEL=core``
leaves out the weights of 0.4 MB or more and cifar10_small, and ``ZOO_RELEASE_URL`` is written into the package as the
address from which ``zoo/remote/address.py`` fetches them. CONTRIBUTING.md describes a release.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SMALL = 400_000  # bytes: weights below this size come with every wheel
EMBEDDED = ("mnist", "shakespeare", "spoken_digits_small", "tatoeba", "small_stories", "cifar10_small")


class ChooseFiles(BuildHookInterface):
    """Adds weights, embedded data and the address to the files of a build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # the clone's own files serve
            return
        kind, address = os.environ.get("ZOO_WHEEL", "complete"), os.environ.get("ZOO_RELEASE_URL", "")
        if kind not in ("core", "complete"):
            raise ValueError(f"ZOO_WHEEL={kind} is unknown; valid: core, complete")
        if address and not address.startswith(("https://", "http://")):
            raise ValueError(f"ZOO_RELEASE_URL={address}: an address begins with https:// or http://")
        if kind == "core" and not address:
            raise ValueError("ZOO_WHEEL=core needs ZOO_RELEASE_URL, the address of the other weights")
        root = Path(self.root)
        wheel, files = self.target_name == "wheel", build_data["force_include"]
        for path in sorted((root / "zoo" / "weights").glob("*.safetensors")):
            if kind == "complete" or path.stat().st_size < SMALL:
                files[str(path)] = f"zoo/weights/{path.name}"
        for name in EMBEDDED:
            if (root / "data" / name).is_dir() and not (kind == "core" and name == "cifar10_small"):
                files[str(root / "data" / name)] = f"zoo/embedded/{name}" if wheel else f"data/{name}"
        if wheel:
            files[str(root / "configs")] = "zoo/configs"
        if address:
            note = Path(self.directory) / "address.txt"
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{address}\n", encoding="utf-8")
            files[str(note)] = "zoo/address.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        (Path(self.directory) / "address.txt").unlink(missing_ok=True)
