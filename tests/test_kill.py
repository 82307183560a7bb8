"""Real kill -9 at random moments, the writing of checkpoints, validation and test included: nothing is lost.

The runs are forked from one process that has imported everything, so that a kill costs a second and not ten.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.test_resume_table import CASES, assert_same_run

KILLS = 50
KINDS = ("ema", "val_within", "language", "gan")


def start(folder: Path, overrides: tuple[str, ...]) -> int:
    """Train in a process of its own, in a folder; its id."""
    pid = os.fork()
    if pid:
        return pid
    from zoo.train import main

    code = 1
    try:
        os.chdir(folder)
        with open("output.txt", "a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["train.py", *overrides]
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def broken(folder: Path, overrides: tuple[str, ...], longest: float, generator: random.Random) -> int:
    """Train, kill and resume until the run is done; the number of kills."""
    kills, last = 0, folder / "run" / "checkpoints" / "last.ckpt"
    while not (folder / "run" / "metrics.json").exists():
        arguments = ("resume=run",) if last.exists() else overrides
        # later and later, because the machine may have become slower than when the whole run was timed
        pid, moment = start(folder, arguments), generator.uniform(0.2, longest * (1 + kills / 20))
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        assert code in (0, -signal.SIGKILL), (folder / "output.txt").read_text()[-2000:]
        kills += code != 0
        assert kills < 500, "no run gets to its end"
    return kills


def drive(folder: Path) -> None:
    """All kinds of runs, unbroken and broken, until there were as many kills as wanted."""
    import lightning  # noqa: F401  before the forks
    import torch

    from tests.conftest import patch_toys

    torch.set_num_threads(1)
    patch_toys()
    generator, kills, turn = random.Random(0), 0, 0
    while kills < KILLS:
        kind = KINDS[turn % len(KINDS)]
        overrides = (*CASES[kind], "hydra.run.dir=run", "trainer.max_epochs=4", "data.val_size=100")
        overrides = tuple(o for o in overrides if kind != "language" or o != "data.val_size=100")
        whole, other = folder / f"{kind}-whole", folder / f"{kind}-{turn}"
        if not whole.exists():
            whole.mkdir()
            begun = time.monotonic()
            assert wait(start(whole, overrides)) == 0, (whole / "output.txt").read_text()[-2000:]
            (whole / "seconds").write_text(str(time.monotonic() - begun))
        other.mkdir()
        longest = float((whole / "seconds").read_text())
        found = broken(other, overrides, longest, generator)
        assert_same_run(whole / "run", other / "run")
        assert not list(other.glob("run/**/.*.ckpt.*")), "what a kill left half written is removed"
        print(f"{kind}: {found} kills, the same end", flush=True)
        kills, turn = kills + found, turn + 1
    print(f"{kills} kills, {turn} broken runs", flush=True)


@pytest.mark.slow
def test_kill_at_any_moment(command, tmp_path):
    done = command("-m", "tests.test_kill", str(tmp_path), env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "broken runs" in done.stdout


if __name__ == "__main__":
    drive(Path(sys.argv[1]).resolve())
