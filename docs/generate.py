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

from weight_pages import card_page

import zoo
from zoo.pretrained.card import read_shipped

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
