"""The resolvers that ``configs/`` may use in interpolations, as in ``${zoo.run_dir:…}``."""

from datetime import datetime
from typing import Any

from omegaconf import OmegaConf

from zoo.config.checks import check_run_name
from zoo.run.links import resumed_folder
from zoo.run.processes import agreed, is_main_process


def run_dir(resume: str | None, name: str) -> str:
    """The folder that a run writes to: a new one, or for a resumed run its old one."""
    check_run_name(name)
    if resume is not None:
        return str(resumed_folder(resume))
    # microseconds, so that two runs that start together do not share a folder
    return f"logs/{name}/{agreed(f'{datetime.now():%Y-%m-%d_%H-%M-%S-%f}')}"


def register_resolvers() -> None:
    """Register the resolvers: a run's folder, Hydra's folder in it, the numbers of classes and tokens of the data."""
    OmegaConf.register_new_resolver("zoo.run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "zoo.subdir",
        lambda resume: subdir(resume) if is_main_process() else None,
        use_cache=True,
        replace=True,
    )
    OmegaConf.register_new_resolver("zoo.count_classes", count_classes, replace=True)
    OmegaConf.register_new_resolver("zoo.vocab_size", vocab_size, replace=True)
    OmegaConf.register_new_resolver("zoo.joint_vocab_size", joint_vocab_size, replace=True)
    OmegaConf.register_new_resolver("zoo.unpaired_vocab_size", unpaired_vocab_size, replace=True)
    OmegaConf.register_new_resolver("zoo.count_tokens", count_tokens, replace=True)
    OmegaConf.register_new_resolver("zoo.story_words", story_words, replace=True)


def count_classes(root: str | None) -> int:
    """The number of classes in a folder of images; models need it before the images are read."""
    from zoo.data.layout import class_names

    return len(class_names(root))


def vocab_size(*, _parent_: Any) -> int:
    """The size of a text's vocabulary; models need it before the text is tokenised."""
    from zoo.data.text import vocab_size

    return vocab_size(_parent_=_parent_)


def joint_vocab_size(*, _parent_: Any) -> int:
    """The number of tokens that two languages share; models need it before the sentences are tokenised."""
    from zoo.data.parallel import vocab_size

    return vocab_size(_parent_=_parent_)


def unpaired_vocab_size(*, _parent_: Any) -> int:
    """The number of tokens of two languages whose sentences are not paired."""
    from zoo.data.unpaired import vocab_size

    return vocab_size(_parent_=_parent_)


def count_tokens(*, _parent_: Any) -> int:
    """The number of tokens in the transcripts of a folder; models need it before the recordings are read."""
    from zoo.data.audio_folder import count_tokens

    return count_tokens(_parent_=_parent_)


def story_words(*, _parent_: Any) -> int:
    """The size of the vocabulary of stories; models need it before the texts are tokenised."""
    from zoo.data.picture_stories import sizes

    return sizes(_parent_=_parent_)


def subdir(resume: str | None) -> str:
    """The subfolder of the run's folder in which Hydra saves the config; each resumption has a new one."""
    return f".hydra-{datetime.now():%Y%m%d-%H%M%S}" if resume else ".hydra"
