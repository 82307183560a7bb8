"""Neural machine translation: an LSTM encoder and an LSTM decoder with attention.

Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks": one LSTM reads a sentence, another writes
its translation. Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate", and
Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation": at each step the decoder looks
back at all states of the encoder. Wu et al. 2016, "Google's Neural Machine Translation System" (GNMT): the first
encoder layer is bidirectional, layers are residual, and the decoder's bottom layer asks for the context, which all
layers above it receive.

What differs from GNMT: residual connections begin at the second layer, not at the third; the two directions of the
first layer have half of the units each, so that all layers are equally wide; the bottom layer does not receive the
context of the step before, so that in training one call of each layer computes all steps; and the decoder's initial
state comes from the encoder's last state (Bahdanau et al., appendix A.2.2).
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.models import backends
from zoo.models.cells import State
from zoo.models.recurrent import Tied

PAD = 0  # the token that fills the rows of a batch


class Memory(NamedTuple):
    """What the encoder leaves for the decoder. Every tensor's first dimension is the sentence.

    Attributes:
        states: the states of its top layer, (B, S, H).
        keys: the states as the attention compares them, (B, S, H).
        mask: True where there is a token and no padding, (B, S).
        summary: the last state, which has read the whole sentence, (B, H).
    """

    states: Tensor
    keys: Tensor
    mask: Tensor
    summary: Tensor


class Written(NamedTuple):
    """What the decoder gives for T target tokens.

    Attributes:
        logits: for the next token after each, (B, T, V).
        attention: the weights of the source tokens at each step, (B, T, S); without attention 1 at the last one.
        state: the state of each layer after the last step, with which the next call can go on.
    """

    logits: Tensor
    attention: Tensor
    state: list[State]


class Additive(nn.Module):
    """score(q, h) = v · tanh(W q + U h) (Bahdanau et al. 2015, appendix A.1.2); the keys are U h."""

    def __init__(self, hidden: int):
        super().__init__()
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:  # (B, T, H), (B, S, H) -> (B, T, S)
        return self.score(torch.tanh(self.query(query)[:, :, None] + keys[:, None]))[..., 0]


class Multiplicative(nn.Module):
    """score(q, h) = q · W h (Luong et al. 2015, equation 8, "general"); the keys are W h."""

    def __init__(self, hidden: int):
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:  # (B, T, H), (B, S, H) -> (B, T, S)
        return query @ keys.mT


ATTENTION = {"additive": Additive, "multiplicative": Multiplicative}


class Seq2Seq(nn.Module):
    """LSTM encoder and decoder; both languages share the embedding, which is also the matrix of the output.

    Args:
        vocab_size: number of different tokens of both languages together; token 0 is padding.
        hidden: number of units of every layer, an even number.
        embedding: size of the token embeddings; None means ``hidden``.
        depth: number of layers of the encoder, and of the decoder.
        attention: "additive" or "multiplicative"; "none" gives the decoder the encoder's last state at each step
            (Cho et al. 2014).
        residual: add the input of each layer from the second on to its output (Wu et al. 2016, equation 6).
        dropout: dropout on the embeddings, between layers and before the output (Zaremba et al. 2014).
    """

    def __init__(
        self,
        vocab_size: Positive,
        hidden: Positive = 256,
        embedding: Positive | None = None,
        depth: Positive = 2,
        attention: Literal["additive", "multiplicative", "none"] = "multiplicative",
        residual: bool = True,
        dropout: Probability = 0.3,
    ):
        super().__init__()
        if hidden % 2:
            raise ZooError(f"model.hidden={hidden} is not valid: give an even number, half of it for each direction")
        if attention not in (*ATTENTION, "none"):
            raise ZooError(f"model.attention={attention} is unknown; valid: {', '.join(ATTENTION)}, none")
        width = embedding or hidden
        self.hidden, self.residual = hidden, residual
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)  # so that the first logits are small
        self.dropout = nn.Dropout(dropout)
        self.forwards, self.backwards = (lstm(width, hidden // 2) for _ in range(2))
        self.encoder = nn.ModuleList(lstm(hidden, hidden) for _ in range(depth - 1))
        self.bridge = nn.Linear(hidden, depth * hidden)
        self.bottom = lstm(width, hidden)
        self.decoder = nn.ModuleList(lstm(2 * hidden, hidden) for _ in range(depth - 1))
        self.attention = None if attention == "none" else ATTENTION[attention](hidden)
        self.readout = nn.Linear(2 * hidden, width)
        self.head = Tied(self.embedding)

    def embed(self, vectors: Tensor) -> None:
        """Begin with these vectors of the tokens, (V, D); those of other directions stay as they are.

        Args:
            vectors: of length about 1; a row of zeros leaves the token's embedding as it is.
        """
        with torch.no_grad():
            known = vectors.norm(dim=1) > 0
            self.embedding.weight[known, : vectors.shape[1]] = vectors[known]
            self.embedding.weight[known, vectors.shape[1] :] *= 0.1  # little beside the vectors

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, L, V) for pairs int64 (B, 2, L): the source, and the target tokens before those to predict."""
        return self.write(x[:, 1], self.read(x[:, 0])).logits

    def read(self, source: Tensor) -> Memory:
        """Encode source tokens, int64 (B, S), of which each row has one or more and then padding."""
        mask = source != PAD
        lengths = mask.sum(1)  # (B,)
        x = self.dropout(self.embedding(source))  # (B, S, E)
        ahead, _ = backends.run(self.forwards, x)  # (B, S, H/2)
        back = reverse(backends.run(self.backwards, reverse(x, lengths))[0], lengths)
        states = torch.cat([ahead, back], -1)  # (B, S, H)
        summary = torch.cat([final(ahead, lengths), back[:, 0]], -1)  # (B, H)
        for layer in self.encoder:
            out, _ = backends.run(layer, self.dropout(states))  # type: ignore[arg-type]
            states = states + out if self.residual else out
            summary = final(states, lengths)
        keys = states if self.attention is None else self.attention.key(states)  # type: ignore[operator]
        return Memory(states, keys, mask, summary)

    def begin(self, memory: Memory) -> list[State]:
        """The initial state of each decoder layer: h = tanh(W s), with the encoder's last state s, and c = 0."""
        h = torch.tanh(self.bridge(memory.summary)).split(self.hidden, -1)
        return [(part, torch.zeros_like(part)) for part in h]

    def write(self, target: Tensor, memory: Memory, state: list[State] | None = None) -> Written:
        """Decode target tokens, int64 (B, T); step t sees the tokens up to t.

        Args:
            target: the tokens; the first one tells the language.
            memory: from ``read``, for the same B.
            state: the state after the tokens before these; None begins a sentence.
        """
        states = state or self.begin(memory)
        x, last = backends.run(self.bottom, self.dropout(self.embedding(target)), states[0])  # (B, T, H)
        context, attention = self.look(x, memory)  # (B, T, H), (B, T, S)
        after = [last]
        for layer, before in zip(self.decoder, states[1:], strict=True):
            out, last = backends.run(layer, torch.cat([self.dropout(x), context], -1), before)  # type: ignore[arg-type]
            x = x + out if self.residual else out
            after.append(last)
        read = torch.tanh(self.readout(torch.cat([x, context], -1)))  # (B, T, E), Luong et al. 2015, equation 5
        return Written(self.head(self.dropout(read)), attention, after)

    def look(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """The context of each step, a mean of the encoder's states, and the weights of this mean."""
        if self.attention is None:
            at = memory.mask.sum(1) - 1
            weights = F.one_hot(at, memory.mask.shape[1]).to(query.dtype)[:, None].expand(-1, query.shape[1], -1)
            return memory.summary[:, None].expand(-1, query.shape[1], -1), weights
        scores = self.attention(query, memory.keys).float()  # (B, T, S)
        weights = scores.masked_fill(~memory.mask[:, None], -torch.inf).softmax(-1).to(query.dtype)
        return weights @ memory.states, weights


def lstm(in_features: int, hidden: int) -> backends.Layer:
    return backends.layer("lstm", in_features, hidden)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row in reverse order up to its length; its padding stays in place: (B, S, H) and (B,) -> (B, S, H)."""
    at = torch.arange(x.shape[1], device=x.device)
    at = torch.where(at < lengths[:, None], lengths[:, None] - 1 - at, at)  # (B, S)
    return x.gather(1, at[..., None].expand_as(x))


def final(x: Tensor, lengths: Tensor) -> Tensor:
    """The last step of each row: (B, S, H) and (B,) -> (B, H)."""
    return x.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, x.shape[-1]))[:, 0]
