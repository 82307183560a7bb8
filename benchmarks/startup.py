"""Wall time of commands that should answer at once, each in a process of its own, in turn; one round is not counted.

The last rows are what an import of torch and of lightning takes on this machine, to compare with.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from timing import Json, ratio, show

BIN = Path(sys.executable).parent
PYTHON, ZOO, ZOO_TRAIN = sys.executable, str(BIN / "zoo"), str(BIN / "zoo-train")
COMMANDS: dict[str, tuple[list[str], dict[str, str], float | None]] = {  # arguments, environment, goal in seconds
    "python train.py --help": ([PYTHON, "train.py", "--help"], {}, 1.0),
    "zoo --help": ([ZOO, "--help"], {}, 1.0),
    "zoo list": ([ZOO, "list"], {}, 1.0),
    "completion of zoo info …": (
        [ZOO],
        {"_ZOO_COMPLETE": "complete_bash", "COMP_WORDS": "zoo info ", "COMP_CWORD": "2"},
        1.0,
    ),
    "completion of zoo-train model=…": (
        [ZOO_TRAIN, "-sc", "query=bash"],
        {"COMP_LINE": "zoo-train model=", "COMP_POINT": "16"},
        1.0,
    ),
    "python train.py optimizr.lr=1 (mistyped)": ([PYTHON, "train.py", "optimizr.lr=1"], {}, 1.0),
    "import zoo": ([PYTHON, "-c", "import zoo"], {}, 1.0),
    "python -c pass": ([PYTHON, "-c", "pass"], {}, None),
    "import torch": ([PYTHON, "-c", "import torch"], {}, None),
    "import lightning": ([PYTHON, "-c", "import lightning"], {}, None),
}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    clone = Path(__file__).resolve().parent.parent
    result = subprocess.run(command, cwd=clone, env=os.environ | environment, capture_output=True, text=True)
    took = time.perf_counter() - start
    if "Traceback" in result.stderr or not (result.stdout or result.stderr or command[1:2] == ["-c"]):
        raise SystemExit(f"{command} did not work:\n{result.stderr}")
    return took


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    json: Json = None,
) -> None:
    """Start-up times, and their ratio to an import of torch."""
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for i in range(repeats + 1):
        for name, (command, environment, _) in COMMANDS.items():
            second = seconds(command, environment)
            if i:
                took[name].append(second)
    rows: list[dict[str, Any]] = []
    for name, (_, _, goal) in COMMANDS.items():
        compared = ratio(took[name], took["import torch"])
        rows.append(
            {
                "command": name,
                "s": statistics.median(took[name]),
                "/ import torch": compared["ratio"],
                "spread": compared["spread"],
                "goal": f"< {goal:g} s" if goal else "",
            }
        )
    show("start-up", rows, json)


if __name__ == "__main__":
    typer.run(main)
