"""Export of a trained model to ONNX or torch.export, checked against the original."""

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.pretrained import load

LARGEST_DIFFERENCE = 1e-4
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}


def export(
    source: str | Path, format: str = "onnx", output: Path | None = None, trust: Sequence[str] = ()
) -> tuple[Path, float]:
    """Write a model that takes prepared inputs, for images normalised and of shape (B, C, H, W), for any B.

    A file that is there already is replaced when the new one has been checked, and not before.

    Returns:
        The file, and the largest difference of its outputs from the original's, at batch sizes it was not made with.

    Raises:
        ZooError: an unknown format, a missing extra, outputs that differ, a place that cannot be written to.
    """
    if format not in SUFFIXES:
        raise ZooError(f"--format {format} is unknown; valid: {', '.join(SUFFIXES)}")
    if format == "onnx":
        check_extra()
    model: Any = load(source, trust)
    path = output or Path(f"{Path(model.card.name).name}{SUFFIXES[format]}")  # a stranger's card names no folder
    part = path.with_name(f".{path.name}-{os.getpid()}{SUFFIXES[format]}")
    try:
        part.touch()
        run = (write_onnx if format == "onnx" else write_torch_export)(model, model.preprocess.random_input(2), part)
        difference = max(compare(run, model, model.preprocess.random_input(n)) for n in (1, 5))
        if not difference <= LARGEST_DIFFERENCE:
            raise ZooError(f"the exported {format} gives outputs that differ by {difference:.1e}; it was not kept")
        os.replace(part, path)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror or error}; choose another --output") from None
    except ZooError:
        raise
    except Exception as error:  # the exporters raise nearly anything on what they cannot express
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ZooError(f"{format} cannot express this model: {type(error).__name__}: {reason}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return path, difference


@torch.no_grad()
def compare(run: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor) -> float:
    return float((run(x) - model(x)).abs().max())


def check_extra() -> None:
    """Raise a ``ZooError`` where what ONNX needs is not installed; the exporter's own message is a page."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ZooError("export to ONNX needs an extra: pip install 'reference-zoo[onnx]'") from None


def write_onnx(model: nn.Module, x: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file; returns a function that runs it."""
    import onnxruntime

    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        model, (x,), path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False, **names
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def write_torch_export(model: nn.Module, x: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the file; returns a function that runs it."""
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return torch.export.load(path).module()
