"""Whatever ends a run and whenever, the run that is resumed ends as the unbroken one: for every task and setting.

A broken run of this table is stopped five times: killed after a checkpoint in the middle of an epoch, killed between
the writing of "best" and of "last", stopped by Ctrl-C in the middle of an epoch, killed in a validation, and killed in
the test. A kill is an exception that nothing in the zoo or in Lightning handles; tests/test_kill.py has real ones.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import toy
from tests.test_resume import assert_same
from zoo.pretrained.reading import read_checkpoint
from zoo.run import checkpoint as checkpoints
from zoo.tasks.density import EM

BREAK = "++callbacks.break._target_=tests.test_resume_table.Break"  # said again to resume: it is no part of the zoo
QUIET = ("callbacks.progress=null", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "seed=3")
SMALL = ("callbacks.graph=null", "callbacks.projector=null", "callbacks.mistakes=null", "callbacks.confusion=null")
IMAGES = (*QUIET, *SMALL, "data.labels_per_class=16", "data.batch_size=32", "data.augment.shift=2")  # 5 batches
CLASSIFY = (*IMAGES, "model=mlp", "model.hidden=[16]", "model.dropout=0.3", "model.batch_norm=true")
PIXELS = (*QUIET, *SMALL, "data.labels_per_class=16", "data.batch_size=32", "data.mean=[0.0]", "data.std=[1.0]")
BINARY = (*PIXELS, "data.binarise=stochastic")
GAN = (*PIXELS, "model=gan", "model.hidden=[16]", "model.latent=4", "task=adversarial", "task.judge=lenet5_mnist",
       "task.discriminator_lr=0.01", "task.smoothing=0.1")  # fmt: skip
SEMI = (
    *PIXELS, "task=semi", "data.labels_per_class=4", "data.batch_size=16", "data.unlabelled=96", "task.ramp_up=0.5",
    "data.augment.shift=1",
)  # fmt: skip
TEXT = (*QUIET, "data=shakespeare", "model=lstm", "model.hidden=12", "model.dropout=0.2", "task=language",
        "data.batch_size=8", "data.seq_len=24", "optimizer=adam", "callbacks.samples.length=8")  # fmt: skip

TRANSLATE = (*QUIET, "data=tatoeba", "data.val_size=20", "data.test_size=20", "data.most=280", "data.batch_size=40",
             "model=seq2seq", "model.hidden=12", "task=translate", "task.bleu=false", "task.monitor=val/loss",
             "task.mode=min", "optimizer=adam")  # fmt: skip

CASES: dict[str, tuple[str, ...]] = {
    "ema": (*CLASSIFY, "callbacks=[default,ema]", "task.max_norm=0.5", "trainer.gradient_clip_val=1"),
    "ema_later": (*CLASSIFY, "callbacks=[default,ema]", "+callbacks.ema.update_starting_at_step=7"),
    "lookahead": (*CLASSIFY, "callbacks=[default,lookahead]", "callbacks.lookahead.every=3", "task.max_norm=0.5"),
    "mixup": (*CLASSIFY, "data.augment.mixup=0.4", "data.augment.cutmix=1.0", "data.augment.flip=alternate"),
    "accumulate": (*CLASSIFY, "trainer.accumulate_grad_batches=2"),
    "lbfgs": (*IMAGES, "model=linear", "optimizer=lbfgs", "scheduler=none"),
    "plateau": (*CLASSIFY, "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=1.0"),
    "epochwise": (*CLASSIFY, "scheduler=exponential", "optimizer=adamw"),
    "val_within": (*CLASSIFY, "trainer.val_check_interval=2"),
    "val_seldom": (*CLASSIFY, "trainer.check_val_every_n_epoch=2", "scheduler=plateau"),
    "early": (
        *CLASSIFY, "callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=9", "trainer.max_epochs=9",
    ),
    "scan": (*IMAGES, "model=scan_lstm", "model.hidden=8"),
    "language": TEXT,
    "language_lbfgs": (*TEXT, "optimizer=lbfgs", "optimizer.max_iter=2", "scheduler=none"),
    "language_bpe": (*TEXT, "data.level=word", "data.windows=shuffled", "callbacks=[default,ema]"),
    "translate": TRANSLATE,
    "unsupervised_translate": (
        *QUIET, "data=unpaired", "data.name=tatoeba", "data.languages=[ko,en]", "data.batch_size=20", "data.most=280",
        "data.val_size=20", "data.test_size=20", "model=seq2seq", "model.hidden=12", "task=unsupervised_translate",
        "task.align=false", "task.word_by_word=0", "optimizer=adam",
    ),
    "reconstruct": (
        *PIXELS, "model=autoencoder", "model.hidden=[16]", "model.code=4", "task=reconstruct",
        "task.corruption=masking", "task.amount=0.3", "task.max_norm=1.0",
    ),
    "layerwise": (
        *PIXELS, "model=autoencoder", "model.hidden=[16]", "model.code=4", "task=reconstruct", "task.layerwise=true",
        "trainer.max_epochs=4", "select=last",
    ),
    "variational": (*BINARY, "model=vae", "model.hidden=[16]", "model.latent=2", "task=variational"),
    "density": (*BINARY, "model=made", "model.hidden=[16]", "model.orderings=3", "task=density"),
    "em": (*PIXELS, "model=ppca", "model.code=2", "model.closed_form=false", "task=em", "scheduler=none"),
    "gan": GAN,
    "critic_steps": (*GAN, "task.critic_steps=2", "optimizer=adam", "scheduler=exponential"),
    "wgan_gp": (
        *GAN, "task.loss=wgan_gp", "task.smoothing=0.0", "task.critic_steps=2", "model.dropout=0.0",
    ),
    **{f"semi_{method}": (*SEMI, "model=mlp", "model.hidden=[16]", "model.dropout=0.2", f"task.method={method}")
       for method in ("none", "pseudo_label", "pi")},
    "semi_mean_teacher": (
        *SEMI, "model=mlp", "model.hidden=[16]", "task.method=mean_teacher", "callbacks=[default,ema]",
    ),
    "semi_ladder": (*SEMI, "model=ladder", "model.hidden=[16]", "model.costs=[10,1,0.1]", "task.method=ladder"),
    "regress": (
        *QUIET, "data=adding", "data.steps=8", "data.train_size=160", "data.val_size=32", "data.test_size=32",
        "data.batch_size=32", "model=gru", "model.hidden=8", "task=regress",
    ),
    "ctc": (
        *QUIET, "data=spoken_digits_small", "data.val_size=1", "data.batch_size=50", "model=conv_lstm", "task=ctc",
        "model.channels=[4,4]", "model.hidden=8", "model.depth=1", "optimizer=adamw", "data.augment.noise=[5,30]",
        "data.augment.speed=[0.9,1.0,1.1]", "data.augment.band_masks=1", "data.augment.time_masks=1", "task.beam=2",
        "callbacks.graph=null",
    ),
    "story": (
        *QUIET, "data=digit_stories", "data.train_size=40", "data.val_size=8", "data.test_size=8",
        "data.batch_size=8", "model=glac", "model.hidden=8", "model.width=8", "model.embedding=4",
        "model.meaning=4", "model.word_dropout=0.3", "task=story", "task.page_words=0.1", "task.matching=1.0",
        "callbacks.stories.words=4",
    ),
    "image_folder": (
        *QUIET, "data=image_folder", "data.root=photos", "data.image_size=16", "data.batch_size=8", "model=mlp",
        "model.hidden=[8]", "model.dropout=0.2", "data.augment.flip=true", "data.val_size=0.2", *SMALL,
    ),
}  # fmt: skip
FAST = ("ema", "early", "language", "critic_steps")


class Killed(BaseException):
    """The process is gone."""


class Break(Callback):
    """Ends the run at a moment: as kill -9 would, or by a Ctrl-C."""

    moment = ""
    step = -1

    def kill(self, moment: str, trainer: Any = None) -> None:
        if Break.moment == moment and (trainer is None or done(trainer) >= Break.step):
            Break.moment = ""
            raise Killed(moment)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.kill("batch", trainer)
        if Break.moment == "ctrl_c" and done(trainer) >= Break.step:
            Break.moment = ""
            os.kill(os.getpid(), signal.SIGINT)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.kill("validation", trainer)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.kill("test")


def done(trainer: Any) -> int:
    """The updates of a run; of EM, which has one an epoch, the batches."""
    em = isinstance(trainer.lightning_module, EM)
    return trainer.fit_loop.epoch_loop.total_batch_idx if em else trainer.global_step


@pytest.fixture(autouse=True)
def _whole():
    Break.moment, Break.step = "", -1


@pytest.fixture
def run(run_train, monkeypatch, tmp_path):
    """Train in a folder: (its name, overrides) -> exit code or None if killed, and the output."""
    images = toy(60, 16, 3)
    for i, (image, label) in enumerate(zip(*images, strict=True)):
        place = tmp_path / "photos" / "ab"[int(label) % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(place / f"{i}.png")

    def call(folder: str, *overrides: str) -> tuple[int | None, str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        if not Path("photos").exists():
            Path("photos").symlink_to(tmp_path / "photos")
        try:
            return run_train(*overrides, BREAK)
        except Killed as killed:
            return None, str(killed)

    return call


def kill_when_written(monkeypatch, name: str, times: int) -> None:
    """Be killed right after a checkpoint was moved into place for the n-th time from now."""
    real, left = os.replace, [times]

    def replace(source, target):
        real(source, target)
        if Path(target).name == name:
            left[0] -= 1
            if not left[0]:
                monkeypatch.setattr(checkpoints.os, "replace", real)
                raise Killed(name)

    monkeypatch.setattr(checkpoints.os, "replace", replace)


def resumed(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """What has to be said again to go on: paths."""
    return ("resume=run", *(o for o in overrides if o.startswith("data.root=")))


@pytest.mark.parametrize("case", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES])
def test_a_broken_run_ends_as_the_unbroken_one(run, monkeypatch, tmp_path, case):
    overrides = (*CASES[case], "hydra.run.dir=run")
    if not any(o.startswith("trainer.max_epochs") for o in overrides):
        overrides = (*overrides, "trainer.max_epochs=3")
    code, output = run("whole", *overrides)
    assert code == 0, output
    end = read_checkpoint(tmp_path / "whole" / "run" / "checkpoints" / "last.ckpt")
    batches = end["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    counted = "task=em" not in overrides
    each = (end["global_step"] if counted else batches) // (end["epoch"] + 1)

    more = ("callbacks.last.every_n_epochs=null", f"callbacks.last.every_n_train_steps={max(1, each * 2 // 5)}")
    # EM has no updates within an epoch, for a checkpoint to be due after: a Ctrl-C in place of a kill
    Break.moment, Break.step = "batch" if counted else "ctrl_c", each - 1 if each > 1 else 1
    code, output = run("broken", *overrides, *more)
    assert code == (None if counted else 130), output
    if counted:
        assert read_checkpoint(tmp_path / "broken" / "run" / "checkpoints" / "last.ckpt")["global_step"] > 0

    best = (tmp_path / "whole" / "run" / "checkpoints" / "best.ckpt").exists()
    again = (*resumed(overrides), "callbacks.last.every_n_epochs=1", "callbacks.last.every_n_train_steps=null")
    kill_when_written(monkeypatch, "best.ckpt" if best else "last.ckpt", 1)
    code, output = run("broken", *again)
    assert code is None, output

    Break.moment, Break.step = "ctrl_c", each + max(1, each // 2)
    code, output = run("broken", *again)
    assert code == 130, output
    Break.moment, Break.step = "validation", 2 * each
    code, output = run("broken", *again)
    assert (code is None) == best, output
    Break.moment = "test"
    code, output = run("broken", *again)
    assert code is None, output
    code, output = run("broken", *again)
    assert code == 0, output
    assert "only its test is missing" in output
    assert_same_run(tmp_path / "whole" / "run", tmp_path / "broken" / "run")
    code, output = run("broken", *again)
    assert code == 1
    assert "this run is finished, " in output


# what of a checkpoint may differ: times, folders, how often it was restarted, and what was said to make it
MAY_DIFFER = ("config", "loops", "pytorch-lightning_version", "hparams_name")


def assert_same_run(whole: Path, broken: Path) -> None:
    """Two runs have the same checkpoints, metrics and curves."""
    names = sorted(path.name for path in whole.glob("checkpoints/*"))
    assert sorted(path.name for path in broken.glob("checkpoints/*")) == names
    for name in names:
        a, b = (comparable(read_checkpoint(run / "checkpoints" / name), run) for run in (whole, broken))
        assert_same(a, b, name)
    a, b = (json.loads((run / "metrics.json").read_text()) for run in (whole, broken))
    assert a
    assert a == b
    assert_same(curves(whole), curves(broken), "curves")


def comparable(content: dict[str, Any], run: Path) -> dict[str, Any]:
    kept = {key: value for key, value in content.items() if key not in MAY_DIFFER}
    kept["card"] = content["card"]["metrics"]
    states = {}
    for key, state in content["callbacks"].items():
        if key == "Timer":
            continue
        key = key.replace("'every_n_train_steps': 2", "'every_n_train_steps': 0")
        # a run that was broken in its first epoch has written a file then that the unbroken one had not yet
        paths = {k for k, v in state.items() if k.endswith("_path") or (isinstance(v, str) and str(run.resolve()) in v)}
        states[key] = {k: v for k, v in state.items() if k not in paths | {"best_k_models"}}
    kept["callbacks"] = states
    return kept


def curves(run: Path) -> dict[str, Any]:
    """All that TensorBoard shows of a run, by tag: the steps and the values; the step of a test picture is one."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
    found: dict[str, Any] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in events.Tags()["images"]:
        found[tag] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    for tag in events.Tags()["tensors"]:
        # what was logged twice is void once, which this reader minds for all but texts
        found[tag] = sorted({(e.step, e.tensor_proto.SerializeToString()) for e in events.Tensors(tag)})
    return found


def test_the_comparison_can_fail(run, tmp_path):
    """Runs of other seeds are not the same, in the checkpoints and in the curves."""
    for folder, seed in (("a", 1), ("b", 2)):
        assert run(folder, *CLASSIFY, "hydra.run.dir=run", f"seed={seed}", "trainer.max_epochs=1")[0] == 0
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "a" / "run", tmp_path / "b" / "run")
    with pytest.raises(AssertionError):
        assert_same(curves(tmp_path / "a" / "run"), curves(tmp_path / "b" / "run"))
    assert torch.is_tensor(read_checkpoint(tmp_path / "a" / "run" / "checkpoints" / "last.ckpt")["random"][0]["cpu"])
