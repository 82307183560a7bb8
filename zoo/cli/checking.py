"""The command checks: what this machine has, for a look before training and for reports of faults."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from rich.table import Table

from zoo.cli.base import app, console
from zoo.paths import CONFIGS, EMBEDDED, WEIGHTS, cache_root, data_root

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "tensorboard", "safetensors")
# a module of each optional extra
EXTRAS = {
    "onnx": "onnxruntime",
    "bpe": "tokenizers",
    "fid": "torch_fidelity",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "optuna": "hydra_plugins.hydra_optuna_sweeper",
    "hub": "huggingface_hub",
    "demo": "gradio",
}


@app.command()
def checks() -> None:
    """Show what this machine has: versions, devices, folders, optional extras and data sets."""
    for title, rows in {
        "versions": versions(),
        "devices": devices(),
        "folders": folders(),
        "extras": extras(),
        "data": data_sets(),
    }.items():
        table = Table("", "", show_header=False, box=None, title=title, title_justify="left", title_style="bold")
        for key, value in rows.items():
            table.add_row(key, value)
        console.print(table)


def versions() -> dict[str, str]:
    return {
        "reference-zoo": installed("reference-zoo") or "not installed: it runs from its source",
        "python": platform.python_version(),
        **{name: installed(name) or "missing" for name in PACKAGES},
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> dict[str, str]:
    """The processor and the accelerators, and the precision that trainer.precision=auto takes."""
    import torch

    from zoo.run.checkpoint import processor
    from zoo.run.guard import fast_precision

    found = {"cpu": f"{os.cpu_count()} cores of {processor()}"}
    for i in range(torch.cuda.device_count()):
        found[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    found["trainer.precision=auto"] = fast_precision("auto")
    return found


def folders() -> dict[str, str]:
    own = Path("configs")
    return {
        "configs": str(CONFIGS),
        "your configs": str(own.resolve()) if own.is_dir() and own.resolve() != CONFIGS else "none: ./configs is read",
        "weights": str(WEIGHTS),
        "data": f"{data_root()} ($ZOO_DATA changes it)",
        "cache": f"{cache_root()} ($XDG_CACHE_HOME changes it)",
    }


def extras() -> dict[str, str]:
    """The optional extras: whether each is installed, and how to get it."""
    declared = " ".join(requires("reference-zoo") or ()) if installed("reference-zoo") else ""
    return {
        name: "installed" if has(module) else f"not installed: pip install 'reference-zoo[{name}]'"
        for name, module in EXTRAS.items()
        if not declared or f"extra == '{name}'" in declared or f'extra == "{name}"' in declared
    }


def has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


def data_sets() -> dict[str, str]:
    """Where each data set is, or how it would be fetched."""
    from zoo.data.corpora import CORPORA
    from zoo.data.sources import SOURCES

    root, found = data_root(), {}
    for name, source in SOURCES.items():
        if (root / "prepared" / f"{name}.safetensors").exists() or any((root / name).glob("*")):
            found[name] = "here"
        elif not source.fetchers or any((EMBEDDED / name).glob("*")):
            found[name] = "comes with the zoo"
        else:
            packaged = any(fetcher.endswith("_package") for fetcher in source.fetchers)
            clients = [client for client in ("npm", "apt-get") if packaged and shutil.which(client)]
            found[name] = f"fetched on first use, from {' or '.join(['its public address', *clients])}"
    for name, corpus in CORPORA.items():
        here = all((root / name / file).exists() for file in corpus.files)
        fetched = "here" if here else "fetched on first use, from its public address"
        found[name] = fetched if corpus.place else "comes with the zoo"
    return found
