"""Recurrent networks for language models, classifiers and taggers of sequences: one trunk, two ways to read it.

Lecture 16.6. Embedding (of tokens) or the numbers themselves, layers of ``zoo.models.backends``, a linear head. With
``read="each"`` there is an output a step: the next token of a language model, or a tag; with "last" one for the
whole.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import layers
from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.models import backends
from zoo.models.cells import State


class Embedding(nn.Embedding):
    """An embedding some of whose rows are zero in training, the same in the whole batch (Gal & Ghahramani 2016, 4.2).

    Args:
        num_embeddings, embedding_dim: as of torch's.
        dropout: probability that a row is zero.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, dropout: Probability = 0.0):
        super().__init__(num_embeddings, embedding_dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, T, E)
        weight = self.weight
        if self.training and self.dropout:
            weight = weight * F.dropout(weight.new_ones(len(weight), 1), self.dropout)
        return F.embedding(x, weight)


class Level(nn.Module):
    """A layer of the net, in one direction or in both, and the dropout of its input, which is frozen with it.

    Args:
        directions: one layer, or a second that runs from the end to the start. Their weights are named by the place,
            "0" and "1", as in the files of weights.
        drop: on the input.
        weight_dropout: see ``zoo.models.backends.run``.
    """

    def __init__(self, directions: Sequence[backends.Layer], drop: nn.Module, weight_dropout: Probability = 0.0):
        super().__init__()
        self.drop, self.weight_dropout = drop, weight_dropout
        for i, layer in enumerate(directions):
            self.add_module(str(i), layer)

    @property
    def directions(self) -> list[backends.Layer]:
        return [layer for name, layer in self.named_children() if name.isdigit()]  # type: ignore[misc]

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T, inputs) to (B, T, hidden · directions), and the state after the last step of the first direction."""
        x = self.drop(x)
        forwards, *backwards = self.directions
        out, last = backends.run(forwards, x, state, self.weight_dropout)
        outs = [out, *(backends.run(back, x.flip(1), None, self.weight_dropout)[0].flip(1) for back in backwards)]
        return (torch.cat(outs, -1) if backwards else out), last


class Tied(nn.Module):
    """A linear head whose matrix is an embedding's: (…, E) -> (…, V)."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.borrowed = [embedding]  # in a list, so that the matrix is not one of this module's own too
        self.bias = nn.Parameter(torch.zeros(len(embedding.weight)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.borrowed[0].weight, self.bias)


class Recurrent(nn.Module):
    """Layers of simple RNN, GRU or LSTM, and a linear head.

    Args:
        num_classes: size of the output: of the vocabulary, tags or classes; 0 gives the trunk's features.
        vocab_size: tokens that an input may be, int64 (B, T); null for inputs of numbers, float32 (B, T, in_features).
        in_features: numbers a step, where the input is no tokens.
        cell: "rnn", "gru" or "lstm".
        hidden: units of a layer, in each direction.
        depth: layers.
        read: an output "each" step, or of the "last" alone.
        bidirectional: a second run of every layer from the end to the start; not for a language model, which it would
            let see what it is to predict.
        embedding: numbers a token becomes; null is ``hidden``.
        tied: the head's matrix is the embedding's (Press & Wolf 2017, Inan et al. 2017).
        dropout: on each layer's input, and on the last's output: with L layers in L + 1 places, but never from step to
            step (Zaremba et al. 2014, section 3.1).
        input_dropout: on the first layer's input, in place of ``dropout``. Null is ``dropout`` for tokens, whose
            embeddings are the paper's h⁰, and 0 for inputs of numbers, which are data and not learned.
        variational: the units that dropout takes are the same in all steps of a sequence (Gal & Ghahramani 2016).
        embedding_dropout: probability that a token of the vocabulary is zero in a whole batch (the same, section 4.2).
        weight_dropout: see ``zoo.models.backends.run``.
        recurrent_dropout, layer_norm, peephole, reset: see ``zoo.models.cells``; for backend="reference".
        orthogonal, forget_bias, chrono: how the layers begin; see ``zoo.models.backends.initialise``.
        backend: "torch", its kernels, or "reference", the equations; weights are the same for both.
    """

    def __init__(
        self,
        num_classes: int,
        vocab_size: int | None = None,
        in_features: int | None = None,
        cell: Literal["rnn", "gru", "lstm"] = "lstm",
        hidden: Positive = 256,
        depth: Positive = 1,
        read: Literal["each", "last"] = "each",
        bidirectional: bool = False,
        embedding: Positive | None = None,
        tied: bool = False,
        dropout: Probability = 0.0,
        input_dropout: Probability | None = None,
        variational: bool = False,
        embedding_dropout: Probability = 0.0,
        weight_dropout: Probability = 0.0,
        recurrent_dropout: Probability = 0.0,
        layer_norm: bool = False,
        peephole: bool = False,
        reset: Literal["before", "after"] = "after",
        orthogonal: bool = False,
        forget_bias: float | None = None,
        chrono: int | None = None,
        backend: Literal["torch", "reference"] = "torch",
    ):
        super().__init__()
        if (vocab_size is None) == (in_features is None):
            raise ZooError("give model.vocab_size for tokens, or model.in_features for numbers, and not both")
        self.hidden, self.read, self.bidirectional = hidden, read, bidirectional
        if input_dropout is None:
            input_dropout = dropout if in_features is None else 0.0
        width = in_features or embedding or hidden
        self.embedding = None if vocab_size is None else Embedding(vocab_size, width, embedding_dropout)
        directions = 2 if bidirectional else 1
        options = {
            "recurrent_dropout": recurrent_dropout,
            "layer_norm": layer_norm,
            "peephole": peephole,
            "reset": reset,
        }
        make_dropout = layers.VariationalDropout if variational else nn.Dropout
        self.layers = nn.ModuleList()
        for i in range(depth):
            size = directions * hidden if i else width
            pair = [backends.layer(cell, size, hidden, backend, **options) for _ in range(directions)]
            for one in pair:
                backends.initialise(one, orthogonal, forget_bias, chrono)
            drop = make_dropout(dropout if i else input_dropout)
            self.layers.append(Level(pair, drop, weight_dropout))
        self.dropout = make_dropout(dropout)
        self.head: nn.Module
        if not tied:
            self.head = layers.make_head(directions * hidden, num_classes)
        elif self.embedding is None or vocab_size != num_classes or width != directions * hidden:
            raise ZooError(
                f"tied=true needs as many classes as tokens, and an embedding as wide as the last layer: got "
                f"{num_classes} and {vocab_size}, {width} and {directions * hidden}"
            )
        else:
            self.head = Tied(self.embedding)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)  # so that the first logits are small

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, T, num_classes), or with read="last" (B, num_classes)."""
        return self.forward_with_state(x)[0]

    def forward_with_state(self, x: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """The logits, and the state after the last step, from which the next call can go on.

        Args:
            x: int64 (B, T), or float32 (B, T, in_features).
            state: a former call's, of the same B; None is zeros. For a bidirectional net, none: it has no next call.
        """
        features, after = self.trunk(self.embed(x), state)  # (B, T, H)
        if self.read == "last":
            # backwards, the last step of the run is the first of the sequence
            forwards, *back = features.split(self.hidden, -1)
            features = torch.cat([forwards[:, -1], *(b[:, 0] for b in back)], -1)  # (B, H)
        return self.head(features), after

    def embed(self, x: Tensor) -> Tensor:
        """What the first layer reads: of tokens (B, T) their embeddings (B, T, E); numbers as they are."""
        return x if self.embedding is None else self.embedding(x)

    def trunk(self, x: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """From ``embed``'s output, the features of every step, (B, T, hidden · directions), and the last state."""
        after = []
        for i, level in enumerate(self.layers):
            x, last = level(x, state[i] if state else None)
            after.append(last)
        return self.dropout(x), after
