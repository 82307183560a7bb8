"""The program ``zoo``: its help by sections, its version, filters of the list, and what it says of this machine."""

import json

import pytest

import zoo
from zoo.cli.base import app
from zoo.cli.groups import SECTIONS


def test_help_has_a_whole_sentence_for_each_command(run):
    code, output, _ = run("--help")
    assert code == 0
    assert "…" not in output
    assert "..." not in output.partition("Use a model:")[2]
    for title in ("Use a model:", "Train:", "For maintainers of the zoo:"):
        assert title in output
    listed = {name for names in SECTIONS.values() for name in names}
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert name in listed
        assert f"\n  {name} " in output


def test_version(run):
    for flag in ("--version", "-V"):
        assert run(flag) == (0, f"reference-zoo {zoo.__version__}\n", "")


def test_list_by_data_and_task(run):
    code, output, _ = run("list", "--data", "mnist", "--task", "classify", "--json")
    found = json.loads(output)
    assert code == 0
    assert {card["name"] for card in found} > {"lenet5_mnist", "linear_mnist"}
    assert {(card["data"], card["task"]) for card in found} == {("mnist", "classify")}
    assert all(card["metrics"]["accuracy"] > 0.9 for card in found)
    code, output, _ = run("list", "--task", "language")
    assert output.splitlines()[0].startswith("weights")
    assert "lstm_shakespeare" in output
    assert "lenet5" not in output


@pytest.mark.parametrize("words", [("--data", "minst"), ("--task", "classification")])
def test_list_of_an_unknown_kind(fails, words):
    assert "valid: " in fails("list", *words)


def test_checks(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    code, output, _ = run("checks")
    assert code == 0
    for word in ("torch ", "cores of", "configs", "trainer.precision=auto", f"{tmp_path} ($ZOO_DATA", "onnx "):
        assert word in output, word
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert "comes with the zoo" in lines["cifar10_small"]
    assert "fetched on first use" in lines["cifar100"]
    assert "fetched on first use" in lines["ptb"]
    assert not list(tmp_path.iterdir())


def test_lists_by_pattern():
    assert zoo.list_models("resnet1??") == ["resnet101", "resnet110", "resnet152"]
    assert zoo.list_weights("vae*") == ["vae_mnist"]
    assert zoo.list_models("nothing*") == []


def test_info_of_an_unknown_name(fails):
    assert "did you mean lenet5?" in fails("info", "lenet6")
    assert "did you mean vae_mnist?" in fails("info", "vae_mnst")
