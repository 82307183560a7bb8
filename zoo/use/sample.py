"""Sampling from a language model: a token at a time, the state carried, nothing read twice."""

import codecs
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.contracts import Stateful
from zoo.data.tokens import Tokenizer
from zoo.errors import ZooError
from zoo.models.backends import as_reference
from zoo.models.recurrent import Level, Recurrent


def sample(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    forbidden: Sequence[int] = (),
    seed: int = 0,
) -> Iterator[int]:
    """Token after token, each drawn from what the model expects after the prompt and those before.

    Args:
        model: a language model in eval mode, with ``forward_with_state``.
        prompt: tokens, int64 (N,), N of 1 or more; not repeated in the output.
        length: tokens to draw.
        temperature: logits are divided by it; 0 takes the most probable token always.
        top_k: draw among the k most probable alone.
        top_p: draw among the most probable that together reach this probability (Holtzman et al. 2020).
        forbidden: tokens never drawn.
        seed: of the draws; the same one gives the same text.

    Raises:
        ZooError: a model that is no language model; a number out of its range.
    """
    if not isinstance(model, Stateful):
        raise ZooError("this model is no language model, so there is nothing to sample")
    if not 0 <= temperature < float("inf"):
        raise ZooError(f"temperature={temperature} is not valid: give 0 or more, and no infinity")
    if top_k is not None and top_k < 1:
        raise ZooError(f"top_k={top_k} is not valid: give 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise ZooError(f"top_p={top_p} is not valid: give more than 0 and at most 1")
    return draw(model, prompt, length, temperature, top_k, top_p, list(forbidden), seed)


@torch.inference_mode()
def draw(
    model: Any,
    prompt: Tensor,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    forbidden: list[int],
    seed: int,
) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    x, state = prompt[None], None  # (1, N)
    model = stepwise(model)
    for _ in range(length):
        logits, state = model.forward_with_state(x, state)
        last = logits[0, -1].float().cpu()  # (V,)
        last[forbidden] = -torch.inf
        x = choose(last, temperature, top_k, top_p, generator).view(1, 1).to(prompt.device)
        yield int(x)


def stepwise(model: Any) -> Any:
    """A recurrent net on a CPU with its layers by the equations: torch's kernel prepares its weights anew in every
    call, which for a single step takes several times what the step does. The parameters are shared.
    """
    if not isinstance(model, Recurrent) or next(model.parameters()).device.type != "cpu":
        return model
    twin = copy.copy(model)
    twin._modules, levels = dict(model._modules), cast("list[Level]", model.layers)
    twin.layers = nn.ModuleList(Level([as_reference(one) for one in level.directions], level.drop) for level in levels)
    return twin


def choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> Tensor:
    """One token: logits (V,) -> int64 ()."""
    if temperature == 0 or top_k == 1:
        return logits.argmax()
    values, tokens = ((logits - logits.max()) / temperature).sort(descending=True, stable=True)
    if top_k is not None:
        values, tokens = values[:top_k], tokens[:top_k]
    p = values.softmax(0)
    if top_p is not None:
        p = p * (p.cumsum(0) - p < top_p)  # those before which the sum has not reached it
    return tokens[torch.multinomial(p, 1, generator=generator)[0]]


def text_of(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """What tokens read as, as they come; a character whose bytes are in several tokens comes with the last of them."""
    if not tokenizer.vocabulary or isinstance(tokenizer.vocabulary[0], str):
        for token in tokens:
            yield tokenizer.decode([token])
        return
    whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield whole.decode(tokenizer.vocabulary[token])  # type: ignore[arg-type]
    yield whole.decode(b"", final=True)


def encoded_prompt(tokenizer: Tokenizer, prompt: str, strict: bool = True) -> Tensor:
    """A prompt as tokens; an empty one is a line's end, after which anything may begin.

    Raises:
        ZooError: the model knows none of the prompt's characters or words, and that is not to be passed over.
    """
    tokens = tokenizer.encode(prompt or "\n")
    if strict and tokenizer.unknown is not None and prompt and (tokens == tokenizer.unknown).all():
        raise ZooError(f"the model knows nothing of the prompt {prompt!r}: it was trained on other characters or words")
    return tokens if len(tokens) else tokenizer.encode("\n")
