"""Writes the pages of the site that are made from the code, the cards and the files outside of docs/.

They are written to ``docs/made``, which git ignores: one page a shipped weight, one page a module of the API, and one
page for each file that a page links to, so that a link to ``../zoo/models/mlp.py`` works on the site as well.
"""

import importlib
import os
import pkgutil
import re
import shutil
from pathlib import Path

import zoo
from zoo.pretrained.card import Card, arrow, read_shipped, show

REPO = Path(__file__).resolve().parent.parent
# pages that lie elsewhere in the repository, by their path there
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing",
    "RESULTS.md": "results",
    "CHANGELOG.md": "changelog",
    "data/README.md": "data_sets",
    "benchmarks/README.md": "benchmarks",
}
PACKAGES = ("zoo.models", "zoo.tasks", "zoo.data", "zoo.callbacks")
MODULES = ("zoo.contracts", "zoo.layers", "zoo.arguments")
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#|/made/)([^)#\s]+)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sh": "bash", ".cff": "yaml"}


def all_pages(docs: Path) -> None:
    """Write docs/made. Pages that have not changed are left as they are, so that Sphinx does not read them again."""
    made = docs / "made"
    written.clear()
    for name, page in ELSEWHERE.items():
        if (REPO / name).exists():
            text = (REPO / name).read_text(encoding="utf-8")
            write(made / f"{page}.md", linked(text, Path(name).parent, made))
    if not (REPO / "CHANGELOG.md").exists():
        write(made / "changelog.md", f"# Change log\n\nVersion {zoo.__version__} is the first one.\n")
    shutil.copy2(REPO / "notebooks" / "tour.ipynb", made / "tour.ipynb")
    cards, errors = read_shipped()
    if errors:
        raise SystemExit("\n".join(errors))
    for card in cards:
        write(made / "weights" / f"{card.name}.md", linked(card_page(card), Path("docs"), made))
    names = "\n".join(card.name for card in cards)
    write(made / "weights" / "index.md", WEIGHTS.format(names=names))
    api(made)
    for page in docs.glob("*.md"):
        linked(page.read_text(encoding="utf-8"), Path("docs"), made)  # for the files it links to
    for old in [path for path in made.rglob("*.md") if path not in written]:
        old.unlink()


def link_to_pages(app, docname: str, source: list[str]) -> None:
    """Sphinx's event for a page that was read: its links to files become links to pages of the site."""
    if docname.startswith("made/"):  # those were written with such links
        return
    source[0] = linked(source[0], Path("docs"), REPO / "docs" / "made")
    if docname == "index":  # its table of contents names pages that a branch may not have yet
        there = {page.stem for page in (REPO / "docs").glob("*.md")}
        source[0] = re.sub(r"^([a-z_]+)\n", lambda m: m[0] if m[1] in there else "", source[0], flags=re.M)


def linked(text: str, folder: Path, made: Path) -> str:
    """The text of a page of the repository's ``folder``, with links to pages of the site; writes those of files."""

    def target(match: re.Match) -> str:
        opening, link, anchor = match[1], match[2], match[3] or ""
        path = os.path.normpath(folder / link)
        if (REPO / path).is_dir():
            path = f"{path}/README.md"
        if path == "README.md":
            return f"{opening}/index.md{anchor})"
        if path in ELSEWHERE:
            return f"{opening}/made/{ELSEWHERE[path]}.md{anchor})"
        if path.startswith("docs/") and Path(path).suffix in (".md", ".png", ".csv"):
            return f"{opening}/{path.removeprefix('docs/')}{anchor})"
        if path.startswith("zoo/weights/") and path.endswith(".json"):
            return f"{opening}/made/weights/{Path(path).stem}.md{anchor})"
        if (REPO / path).is_file():
            write_source(path, made)
            return f"{opening}/made/source/{path}.md{anchor})"
        return match[0]  # a dead link, which Sphinx warns of

    return LINK.sub(target, text)


written: set[Path] = set()  # the pages of this build


def write(path: Path, text: str) -> None:
    written.add(path)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_source(path: str, made: Path) -> None:
    """A page with a file's content."""
    page = made / "source" / f"{path}.md"
    inside = os.path.relpath(REPO / path, page.parent)
    write(page, SOURCE.format(path=path, inside=inside, language=LANGUAGES.get(Path(path).suffix, "text")))


SOURCE = """---
orphan: true
---
# {path}

```{{literalinclude}} {inside}
:language: {language}
```
"""

WEIGHTS = """# Each shipped weight

[The table of all of them](/shipped.md) has their test figures side by side.

```{{toctree}}
:maxdepth: 1

{names}
```
"""


# --- a page a shipped weight ------------------------------------------------------------------------------------------


def card_page(card: Card) -> str:
    """The page of a shipped weight, from its card; links are relative to docs/."""
    module = card.model["_target_"].rpartition(".")[0]
    many = len(card.runs) > 1
    lines = [f"# {card.name}", "", f"{card.title}. {card.parameters:,} parameters; licence {card.licence}.", ""]
    lines += ["| test metric | these weights | mean ± standard deviation over the seeds |" if many else
              "| test metric | these weights |", "|---|---:|---:|" if many else "|---|---:|"]  # fmt: skip
    for name, value in card.metrics.items():
        row = f"| [{name}](metrics.md) {arrow(name)} | {show(name, value)} |"
        if many:
            mean, spread = (show(name, number) for number in card.mean_and_spread(name))
            row += f" {mean} ± {spread} |"
        lines.append(row)
    seeds = ", ".join(f"{run['seed']:.0f}" for run in card.runs if "seed" in run)
    lines += [
        "",
        f"Measured on the official test split of `{card.data.get('name', 'its data')}`; the arrow points to the better "
        f"direction. {f'Seeds {seeds}; the weights are those of the first.' if many else 'One seed.'}",
        "",
        f"To compare with: {card.published}.",
        "",
        "## Use",
        "",
        "```",
        f"zoo info {card.name}",
        *use(card),
        f"zoo evaluate {card.name}",
        "```",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.load("{card.name}")',
        "```",
        "",
    ]
    for end, heading, text in PICTURES:
        if (REPO / "docs" / "weights" / f"{card.name}{end}.png").exists():
            text = text if end else CAPTIONS[kind(card)]
            lines += [f"## {heading if end else HEADINGS[kind(card)]}", "", text.format(name=card.name), ""]
            lines += [f"![{card.title}](weights/{card.name}{end}.png)", ""]
    example = REPO / "docs" / "weights" / f"{card.name}.txt"
    if example.exists():
        lines += ["## A sample", "", f"From `zoo sample {card.name} --seed 1 --length 600`:", ""]
        lines += ["```text", example.read_text(encoding="utf-8").rstrip(), "```", ""]
    lines += ["## How it was trained", "", "```", card.command, "```", ""]
    lines += [f"It took {card.minutes:.1f} minutes on {card.hardware}, with torch {card.versions.get('torch', '')}"
              f"{f' ({card.note})' if card.note else ''}.", ""]  # fmt: skip
    experiment = re.search(r"experiment=(\w+)", card.command)
    if experiment and (REPO / "configs/experiment" / f"{experiment[1]}.yaml").exists():
        lines += [
            f"- All settings: [configs/experiment/{experiment[1]}.yaml](../configs/experiment/{experiment[1]}.yaml)"
        ]
    lines += [
        f"- The model: [{module}](/made/api/{module}.md), [its code](../{module.replace('.', '/')}.py)",
        f"- The file: `zoo/weights/{card.name}.safetensors`, sha256 `{card.sha256}`",
        "",
    ]
    return "\n".join(lines)


PICTURES = (("", "", ""), ("_curve", "Curve", "A run of the command below, trained again for this page ([its "
            "numbers](weights/{name}_curve.csv)). Its figures may differ a little from those of the "
            "run that made the weights, as another processor rounds otherwise."))  # fmt: skip
HEADINGS = {"draws": "Samples", "encodes": "Reconstructions", "classifies": "Mistakes", "writes": ""}
CAPTIONS = {
    "draws": "What `zoo sample {name} -n 50 --seed 1` draws.",
    "encodes": "The first test images, and below each its reconstruction.",
    "classifies": "The test images whose wrong class got the highest probability, as *true → predicted*.",
    "writes": "",
}


def kind(card: Card) -> str:
    """What the weights are for: "classifies", "writes" (text), "draws" (images) or "encodes" (images)."""
    task = card.task.get("_target_", "").rpartition(".")[2]
    if task in ("Classify", "SemiSupervised"):
        return "classifies"
    return {"Language": "writes", "Reconstruct": "encodes"}.get(task, "draws")


def use(card: Card) -> list[str]:
    """The commands that use the weights."""
    return {
        "classifies": [f"zoo predict {card.name} image.png"],
        "writes": [f"zoo sample {card.name} --length 300"],
        "draws": [f"zoo sample {card.name} -n 64 --out grid.png"],
        "encodes": [f"zoo reconstruct {card.name} image.png"],
    }[kind(card)]


# --- the API ----------------------------------------------------------------------------------------------------------


def api(made: Path) -> None:
    """One page for the names of ``zoo.__all__``, and one for each module that a config or an own class may name."""
    lines = ["# zoo", "", "The names of the package itself: `import zoo` is enough.", "", "```{eval-rst}"]
    for name in sorted(zoo.__all__):
        thing = getattr(zoo, name)
        what = "exception" if isinstance(thing, type) and issubclass(thing, Exception) else "class"
        lines += [f".. auto{what if isinstance(thing, type) else 'function'}:: zoo.{name}"]
        lines += ["   :members:", ""] if isinstance(thing, type) else [""]
    write(made / "api" / "zoo.md", "\n".join([*lines, "```", ""]))
    index = ["# API", "", "- [zoo](zoo.md): create, load and list models"]
    names = list(MODULES)
    for package in PACKAGES:
        found = pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
        names += [module.name for module in found]
    for name in names:
        doc = (importlib.import_module(name).__doc__ or "").strip()
        index.append(f"- [{name}]({name}.md): {' '.join(doc.partition(chr(10) * 2)[0].split()).replace('``', '`')}")
        source = f"{name.replace('.', '/')}.py"
        write_source(source, made)
        write(made / "api" / f"{name}.md", MODULE.format(name=name, source=source))
    write(made / "api" / "index.md", "\n".join([*index, "", "```{toctree}", ":hidden:", "", "zoo", *names, "```", ""]))


MODULE = """# {name}

[Its code](/made/source/{source}.md)

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :undoc-members:
   :show-inheritance:
```
"""
