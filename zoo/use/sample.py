"""Sample from a recurrent language model, one token at a time; its state is kept, so no token is read twice."""

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
    """Generate tokens one by one, each drawn from the model's distribution given the prompt and the tokens before it.

    Args:
        model: a language model in eval mode, with ``forward_with_state``.
        prompt: tokens, int64 (N,), N of 1 or more; not repeated in the output.
        length: the number of tokens to draw.
        temperature: the divisor of the logits; 0 always takes the most probable token.
        top_k: draw from the k most probable tokens only.
        top_p: draw from the smallest set of most probable tokens whose probabilities sum to at least this (Holtzman et
            al. 2020).
        forbidden: tokens that are never drawn.
        seed: the seed of the draws; the same seed gives the same text.

    Raises:
        ZooError: the model is no language model, or a number is out of range.
    """
    if not isinstance(model, Stateful):
        raise ZooError("this model is no language model, so there is nothing to sample")
    if not 0 <= temperature < float("inf"):
        raise ZooError(f"temperature={temperature} is not valid: give a finite number, 0 or more")
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
    """A copy of a recurrent network on the CPU that computes its layers by their equations and shares the parameters.

    Torch's CPU kernel prepares the weights anew in every call, which takes several times as long as a single step.
    Other models, and those on other devices, are returned unchanged.
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
    """Draw one token: logits (V,) -> int64 ()."""
    if temperature == 0 or top_k == 1:
        return logits.argmax()
    values, tokens = ((logits - logits.max()) / temperature).sort(descending=True, stable=True)
    if top_k is not None:
        values, tokens = values[:top_k], tokens[:top_k]
    p = values.softmax(0)
    if top_p is not None:
        p = p * (p.cumsum(0) - p < top_p)  # tokens before which the sum has not reached top_p
    return tokens[torch.multinomial(p, 1, generator=generator)[0]]


def text_of(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of each token as it arrives; a character whose bytes span several tokens comes with the last of them."""
    if not tokenizer.vocabulary or isinstance(tokenizer.vocabulary[0], str):
        for token in tokens:
            yield tokenizer.decode([token])
        return
    whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield whole.decode(tokenizer.vocabulary[token])  # type: ignore[arg-type]
    yield whole.decode(b"", final=True)


def encoded_prompt(tokenizer: Tokenizer, prompt: str, strict: bool = True) -> Tensor:
    """A prompt as tokens, int64 (N,); an empty prompt is replaced by a line end, after which any line may begin.

    Raises:
        ZooError: with ``strict``, if the model's vocabulary has none of the prompt's characters or words.
    """
    tokens = tokenizer.encode(prompt or "\n")
    if strict and tokenizer.unknown is not None and prompt and (tokens == tokenizer.unknown).all():
        raise ZooError(f"the model knows nothing of the prompt {prompt!r}: it was trained on other characters or words")
    return tokens if len(tokens) else tokenizer.encode("\n")
