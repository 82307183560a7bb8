"""The commands that bring files to this machine and publish models on a hub: download and push."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.base import Name, Trust, app, complete_name, console
from zoo.errors import ZooError
from zoo.pretrained.card import shipped
from zoo.terminal import say


def complete_download(incomplete: str) -> list[str]:
    from zoo.data.corpora import CORPORA
    from zoo.data.sources import SOURCES
    from zoo.data.speech_sources import SPEECH

    others = [name for name in [*SOURCES, *CORPORA, *SPEECH] if name.startswith(incomplete)]
    names = [*complete_name(incomplete), *others]
    return list(dict.fromkeys(names))


@app.command()
def download(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Shipped weights, a data set or a text, or hf:owner/name.", autocompletion=complete_download
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All shipped weights.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="With --all: copy weights, cards and cifar10_small there, for ZOO_WEIGHTS or a web server."),
    ] = None,
) -> None:
    """Bring weights or a data set to this machine, unless they are there, and print where they are."""
    from zoo.pretrained.on_demand import lay_out, weights_file

    if everything == (name is not None):
        raise ZooError("give a name, or --all")
    if folder is not None:
        if not everything:
            raise ZooError("--folder is for all weights: zoo download --all --folder FOLDER")
        files = lay_out(folder)
        console.print(f"{folder}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB")
        return
    for each in shipped() if everything else [str(name)]:
        console.print(str(weights_file(each) if each in shipped() else other(each)))


def other(name: str) -> Path:
    """Where a data set, a text or a model on the hub is on this machine, after it was brought there."""
    from zoo.config.registry import suggest
    from zoo.data import corpora, sources, speech_sources
    from zoo.paths import data_root

    if name.startswith("hf:"):
        from zoo.pretrained.hugging_face import WEIGHTS, fetch_repository

        return fetch_repository(name).with_name(WEIGHTS)
    if name in sources.SOURCES:
        sources.load(name)
        return data_root() / "prepared" / f"{name}.safetensors"
    if name in corpora.CORPORA:
        corpora.load(name)
        return corpora.folder_of(name)
    if name in speech_sources.SPEECH:
        speech_sources.load_speech(name)
        return speech_sources.path_of(name)
    known = [*shipped(), *sources.SOURCES, *corpora.CORPORA, *speech_sources.SPEECH]
    raise suggest(name, known, "shipped weight or data set", "hf:owner/name")


@app.command()
def push(
    name: Name,
    repository: Annotated[str | None, typer.Argument(help="The repository on the hub: owner/name.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Write the files there, instead of uploading them.")] = None,
    licence: Annotated[str, typer.Option(help="The licence of the weights, such as mit; default: the card's.")] = "",
    private: Annotated[bool, typer.Option("--private", help="A new repository is for its owner alone.")] = False,
    trust: Trust = None,
) -> None:
    """Publish a model on the Hugging Face hub: its weights, its card and a page with its figures."""
    from zoo.pretrained import push as pushing

    if (folder is None) == (repository is None):
        raise ZooError("give a repository, as in owner/name, or --folder FOLDER to write the files only")
    if folder is not None:
        for file in pushing.lay_out(name, folder, licence, trust or ()):
            console.print(str(file))
    else:
        console.print(pushing.push(name, str(repository), licence, trust or (), private))
        say(f'load it with zoo.load("hf:{repository}")')
