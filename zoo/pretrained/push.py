"""A trained model as a repository of the Hugging Face hub: its weights, its card, and a README in the hub's format."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zoo.errors import ZooError
from zoo.pretrained.card import Card, portable
from zoo.pretrained.hugging_face import CARD, SOURCE, WEIGHTS, endpoint

# The hub's names: of what a model is for, by the task's class; of data sets; of metrics. Others have no entry there.
PIPELINES = {
    "zoo.tasks.classify.Classify": "image-classification",
    "zoo.tasks.semi.SemiSupervised": "image-classification",
    "zoo.tasks.language.Language": "text-generation",
    "zoo.tasks.translate.Translate": "translation",
    "zoo.tasks.ctc.CTC": "automatic-speech-recognition",
    "zoo.tasks.story.Tell": "image-to-text",
    "zoo.tasks.adversarial.Adversarial": "unconditional-image-generation",
    "zoo.tasks.density.Density": "unconditional-image-generation",
    "zoo.tasks.density.EM": "unconditional-image-generation",
    "zoo.tasks.variational.Variational": "unconditional-image-generation",
    "zoo.tasks.reconstruct.Reconstruct": "image-feature-extraction",
}
DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "tiny_shakespeare": "karpathy/tiny_shakespeare",
    "ptb": "ptb-text-only/ptb_text_only",
    "wikitext2": "Salesforce/wikitext",
}
METRICS = {"accuracy": "accuracy", "f1": "f1", "perplexity": "perplexity", "fid": "fid"}


def lay_out(
    source: str | Path, folder: Path, licence: str = "", trust: Sequence[str] = (), repository: str = "owner/name"
) -> list[Path]:
    """Write a model's files as ``zoo.load("hf:owner/name")`` reads them: weights, card and README.

    Args:
        source: a shipped name, a checkpoint, or a safetensors file with its card.
        licence: the licence of the weights, as the hub writes it ("mit", "cc-by-4.0"); empty for the card's own.
        trust: as for ``zoo.load``, by which the files are read again as a test.
        repository: the name of the repository, for its README.

    Returns:
        The files that were written.

    Raises:
        ZooError: the model cannot be loaded, or the folder cannot be written.
    """
    from safetensors.torch import save

    from zoo.pretrained.loading import load
    from zoo.pretrained.reading import read

    card, tensors = read(source)
    content = save({name: tensor.contiguous().clone() for name, tensor in tensors.items()})
    card = portable(card)
    card.licence = licence or card.licence
    card.sha256, card.size = hashlib.sha256(content).hexdigest(), len(content)
    weights, described, readme = folder / WEIGHTS, folder / CARD, folder / "README.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(content)
        card.save(described)
        readme.write_text(page(card, repository), encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{folder} cannot be written: {error.strerror or error}") from None
    load(weights, trust)  # what a stranger's zoo would refuse is not published
    return [weights, described, readme]


def push(
    source: str | Path, repository: str, licence: str = "", trust: Sequence[str] = (), private: bool = False
) -> str:
    """Upload a model to the hub as the user who is logged in there (``hf auth login``, or ``HF_TOKEN``).

    Args:
        repository: "owner/name"; it is created if it does not exist.
        licence, trust: as for ``lay_out``.
        private: create the repository for its owner alone.

    Returns:
        The address of the commit.

    Raises:
        ZooError: huggingface_hub is not installed, or the hub refuses; the model cannot be loaded.
    """
    if SOURCE.fullmatch(f"hf:{repository}") is None or "@" in repository:
        raise ZooError(f"{repository} is no name of a repository; write owner/name")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ZooError(
            "zoo push needs an extra: pip install 'reference-zoo[hub]'; or write the files only: --folder FOLDER"
        ) from None
    with TemporaryDirectory() as temporary:
        lay_out(source, Path(temporary), licence, trust, repository)
        hub = HfApi(endpoint=endpoint(), library_name="reference-zoo")
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            done: Any = hub.upload_folder(
                repo_id=repository, folder_path=temporary, commit_message=f"{Path(source).name}, by zoo push"
            )
        except Exception as error:  # its own, and those of the HTTP library, which differs between its versions
            raise ZooError(
                f"{endpoint()} did not take {repository}: {one_line(str(error))}; are you logged in (hf auth login)?"
            ) from None
    return str(done)


def page(card: Card, repository: str) -> str:
    """The README of a repository: metadata in the hub's format, the figures, and how to load the model."""
    import yaml

    header = yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True, width=10**6)
    rows = "".join(f"| {name} | {value:.6g} |\n" for name, value in card.metrics.items())
    trained = [
        f"Trained in {card.minutes:g} minutes on {card.hardware}." if card.minutes else "",
        f"Command: `{card.command}`." if card.command else "",
        f"Published figure to compare with: {card.published}." if card.published else "",
        card.note,
    ]
    return f"""---
{header}---

# {one_line(card.title)}

{card.parameters:,} parameters. {one_line(" ".join(text for text in trained if text))}

```python
import zoo  # pip install reference-zoo

model = zoo.load("hf:{repository}")
```

| test metric | value |
|---|---|
{rows}
`model.json` describes the model: its config, data, preprocessing, and the metrics of {len(card.runs) or 1} seed(s). The
weights in `model.safetensors` have the sha256 `{card.sha256}`.
"""


def metadata(card: Card) -> dict[str, Any]:
    """The header of a model's page in the hub's format, with its test metrics as ``model-index``; what is not known is
    left out.
    """
    kind = PIPELINES.get(str(card.task.get("_target_")))
    data = str(card.data.get("name") or "")
    content: dict[str, Any] = {"library_name": "reference-zoo", "tags": ["reference-zoo", "pytorch"]}
    if card.licence:
        content["license"] = card.licence.lower()
    if kind:
        content["pipeline_tag"] = kind
    if data in DATASETS:
        content["datasets"] = [DATASETS[data]]
    if used := [METRICS[name] for name in card.metrics if name in METRICS]:
        content["metrics"] = used
    if card.metrics and kind and data:
        measured = [
            {"type": METRICS.get(name, name), "value": value, "name": name.replace("_", " ")}
            for name, value in card.metrics.items()
        ]
        dataset = {"name": data, "type": DATASETS.get(data, data), "split": "test"}
        content["model-index"] = [
            {"name": card.name, "results": [{"task": {"type": kind}, "dataset": dataset, "metrics": measured}]}
        ]
    return content


def one_line(text: str) -> str:
    return " ".join(text.split())
