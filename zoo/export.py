"""Export of a trained model to ONNX or torch.export, checked against the original."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.pretrained import load

LARGEST_DIFFERENCE = 1e-4
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}


def export(
    source: str | Path, format: str = "onnx", output: Path | None = None, trust: Sequence[str] = ()
) -> tuple[Path, float]:
    """Write a model that takes prepared inputs, for images normalised and of shape (B, C, H, W), for any B.

    Returns:
        The file, and the largest difference of its outputs from the original's, at a batch size it was not made with.

    Raises:
        ZooError: an unknown format, a missing extra, outputs that differ (the file is removed then).
    """
    if format not in SUFFIXES:
        raise ZooError(f"--format {format} is unknown; valid: {', '.join(SUFFIXES)}")
    model: Any = load(source, trust)
    path = output or Path(f"{model.card.name}{SUFFIXES[format]}")
    x = model.preprocess.random_input(2)
    if format == "onnx":
        run = write_onnx(model, x, path)
    else:
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
        run = torch.export.load(path).module()
    x = model.preprocess.random_input(5)
    with torch.no_grad():
        difference = float((run(x) - model(x)).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        path.unlink()
        raise ZooError(f"the exported {format} gives outputs that differ by {difference:.1e}; it was not kept")
    return path, difference


def write_onnx(model: torch.nn.Module, x: Tensor, path: Path) -> Any:
    """Write the file; returns a function that runs it."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter needs it
    except ImportError:
        raise ZooError("export to ONNX needs an extra: pip install 'reference-zoo[onnx]'") from None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        model, (x,), path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False, **names
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
