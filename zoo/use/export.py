"""Export a trained model to ONNX or torch.export, and compare its outputs with the original's."""

import importlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.preprocess import Preprocess as Images
from zoo.errors import ZooError
from zoo.pretrained.loading import load
from zoo.use.signature import Signature, signature

LARGEST_DIFFERENCE = 1e-4
CHECKED = (1, 3, 5)  # batch sizes, which also differ in length if it is free; the export itself uses a batch of 2
Run = Callable[..., tuple[Tensor, ...]]
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}


def export(
    source: str | Path,
    format: str = "onnx",
    output: Path | None = None,
    trust: Sequence[str] = (),
    part: str | None = None,
) -> tuple[Path, float]:
    """Export a model to a file. The exported model takes preprocessed inputs, for images normalised ones of shape
    (B, C, H, W), and batches of any size B; sequences may have any length.

    The names of its inputs and outputs are those of ``zoo.use.signature``. The file also holds the settings of the
    preprocessing, the class names and the model's name as text: in ONNX metadata, or in "zoo.json" of torch.export. An
    existing file is replaced only after the new one has been checked.

    Args:
        source, trust: as in ``zoo.load``.
        format: "onnx" or "torch_export".
        output: the file to write; None writes one named after the model into the current folder.
        part: the part of the model to export; see ``zoo.use.signature.signature``.

    Returns:
        The file, and the largest difference between its outputs and the original's, at batch sizes that were not used
        for the export.

    Raises:
        ZooError: an unknown format or part, a missing extra, outputs that differ, or a file that cannot be written.
    """
    if format not in SUFFIXES:
        raise ZooError(f"--format {format} is unknown; valid: {', '.join(SUFFIXES)}")
    if format == "onnx":
        check_extra()
    model: Any = load(source, trust)
    exported, original = signature(model, part), signature(model, part)
    path = output or Path(f"{Path(model.card.name).name}{SUFFIXES[format]}")  # a foreign card must not choose a folder
    written = path.with_name(f".{path.name}-{os.getpid()}{SUFFIXES[format]}")
    try:
        written.touch()
        run = (write_onnx if format == "onnx" else write_torch_export)(exported, metadata(model), written)
        difference = max(compare(run, original.module, original.example(n)) for n in CHECKED)
        if not difference <= LARGEST_DIFFERENCE:
            raise ZooError(f"the exported {format} gives outputs that differ by {difference:.1e}; it was not kept")
        os.replace(written, path)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror or error}; choose another --output") from None
    except ZooError:
        raise
    except Exception as error:  # the exporters raise many kinds of errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ZooError(f"{format} cannot express this model: {type(error).__name__}: {reason}") from error
    finally:
        with suppress(OSError):
            written.unlink()
    return path, difference


@torch.no_grad()
def compare(run: Run, model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The largest absolute difference between the outputs of the exported model and of the original."""
    given = model(*inputs)
    given = given if isinstance(given, tuple) else (given,)
    return max(float((a - b).abs().max()) for a, b in zip(run(*inputs), given, strict=True))


def metadata(model: Any) -> dict[str, str]:
    """What a program needs to know besides the tensors: the model's name, licence and task as text, and as JSON its
    classes and the settings of its preprocessing, such as mean, std and channels of images.
    """
    card, prepared = model.card, model.preprocess
    found = {key: value for key, value in prepared.config().items() if not key.startswith("_")}
    if isinstance(prepared, Images):
        found["channels"] = prepared.channels
    found["classes"] = model.classes
    said = {"name": card.name, "licence": card.licence, "task": str(card.task.get("_target_", "")).rpartition(".")[2]}
    return {**said, **{key: json.dumps(value, ensure_ascii=False) for key, value in found.items()}}


def dynamic_shapes(inputs: dict[str, dict[int, str]]) -> tuple[dict[int, Any], ...]:
    """The free dimensions in torch.export's form; those with the same name in two inputs must have the same size."""
    names = dict.fromkeys(name for free in inputs.values() for name in free.values())
    dims = {name: torch.export.Dim(name) for name in names}
    return tuple({place: dims[name] for place, name in free.items()} for free in inputs.values())


def check_extra() -> None:
    """Raise a ``ZooError`` if a package for ONNX is not installed; the exporter's own message would be a page long."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ZooError("export to ONNX needs an extra: pip install 'reference-zoo[onnx]'") from None


def name_dimensions(graph: Any, inputs: dict[str, dict[int, str]]) -> None:
    """Name the free dimensions of an ONNX graph, such as "batch", which the exporter calls s77."""
    names = {str(value.shape[dim].value): name for value in graph.inputs for dim, name in inputs[value.name].items()}
    values = [*graph.inputs, *(value for node in graph.all_nodes() for value in node.outputs)]
    for value in values:
        for i, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):  # it may be an expression of several
                value.shape[i] = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), str(dim.value))


def write_onnx(exported: Signature, about: dict[str, str], path: Path) -> Run:
    """Write an ONNX file; return a function that runs it."""
    import onnxruntime

    program: Any = torch.onnx.export(
        as_program(exported),
        dynamo=True,
        verbose=False,
        input_names=list(exported.inputs),
        output_names=exported.outputs,
    )
    name_dimensions(program.model.graph, exported.inputs)
    program.model.metadata_props.update(about)
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = {name: x.numpy() for name, x in zip(exported.inputs, inputs, strict=True)}
        return tuple(torch.from_numpy(output) for output in session.run(None, given))

    return run


def write_torch_export(exported: Signature, about: dict[str, str], path: Path) -> Run:
    """Write a torch.export file; return a function that runs it."""
    torch.export.save(as_program(exported), path, extra_files={"zoo.json": json.dumps(about, ensure_ascii=False)})
    module = torch.export.load(path).module()

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        output = module(*inputs)
        return output if isinstance(output, tuple) else (output,)

    return run


def as_program(exported: Signature) -> torch.export.ExportedProgram:
    torch.compiler.reset()  # otherwise sizes of an earlier export are used for this one
    return torch.export.export(exported.module, exported.example(2), dynamic_shapes=dynamic_shapes(exported.inputs))
