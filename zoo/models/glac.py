"""GLAC Net: tells a story of a sequence of pictures, a sentence for each.

Kim, Heo, Son, Park, Zhang, "GLAC Net: GLocal Attention Cascading Networks for Multi-image Cued Story Generation", 2018
(arXiv 1805.10973), figure 1. The features of the pictures come from a network for ImageNet that is not trained.

- Local: each picture's features, projected and normalised (section 2.1).
- Global: a bidirectional LSTM over the sequence of pictures. Both together are the "glocal" vector of a picture.
- Cascading: the LSTM that writes the sentences goes on from sentence to sentence with its last state (section 2.2); it
  sees its picture's glocal vector at each word.

Layers, initial weights and dropout are those of the authors' code. Different from it: all sentences of all stories in a
batch are one call of the LSTM; the parts can be switched off; ``word_dropout`` hides words from the decoder, so that it
has to look at the pictures (Bowman et al. 2016, section 3.1); and ``meanings`` and ``page_words`` are for the further
objectives of ``task=story``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.contracts import Story
from zoo.errors import ZooError

State = tuple[Tensor, Tensor]  # of the decoder: h and c, (depth, B, hidden) each
UNKNOWN, STOP = 0, 1  # tokens: a word outside the vocabulary; the end of a sentence, which also begins each


class Glocal(nn.Module):
    """From the features of pictures to their glocal vectors, (B, N, in_features) -> (B, N, 2 · hidden)."""

    def __init__(
        self, in_features: int, width: int, hidden: int, depth: int, dropout: float, with_local: bool, with_global: bool
    ):
        super().__init__()
        self.with_local, self.with_global = with_local, with_global
        self.project = nn.Linear(in_features, width)
        self.norm = nn.BatchNorm1d(width, momentum=0.01)
        between = dropout if depth > 1 else 0.0
        if with_global:
            self.lstm = nn.LSTM(width, hidden, depth, batch_first=True, bidirectional=True, dropout=between)
        self.join = nn.Linear(width * with_local + 2 * hidden * with_global, 2 * hidden)
        self.drop = nn.Dropout(dropout)
        self.norm_out = nn.BatchNorm1d(2 * hidden, momentum=0.01)
        for layer in (self.project, self.join):
            initialise(layer)

    def local(self, pictures: Tensor) -> Tensor:
        """The local features alone, (B, N, width)."""
        x = self.project(pictures)
        return self.norm(x.flatten(0, 1)).view_as(x)

    def forward(self, pictures: Tensor) -> Tensor:
        local = self.local(pictures)  # (B, N, width)
        parts = [local] if self.with_local else []
        if self.with_global:
            around = self.lstm(local)[0]  # (B, N, 2 · hidden)
            # without local features, what is said of a picture must come from the story as a whole
            parts.append(around if self.with_local else around.mean(1, keepdim=True).expand_as(around))
        x = self.drop(self.join(torch.cat(parts, 2)))  # (B, N, 2 · hidden)
        return self.norm_out(x.flatten(0, 1)).view_as(x)


class Words(nn.Embedding):
    """Embeddings of words, some of which are ``UNKNOWN`` in training, with probability ``hidden``: (…) -> (…, E)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, hidden: float):
        super().__init__(num_embeddings, embedding_dim)
        self.hidden = hidden

    def forward(self, words: Tensor) -> Tensor:
        if self.training and self.hidden:
            hide = (torch.rand(words.shape, device=words.device) < self.hidden) & (words != STOP)
            words = words.masked_fill(hide, UNKNOWN)
        return super().forward(words)


class GLAC(nn.Module):
    """GLAC Net.

    Args:
        num_classes: size of the vocabulary.
        in_features: numbers per picture; ResNet-152, which the paper takes, gives 2,048.
        width: size of the local features.
        hidden: units of each LSTM and direction.
        embedding: size of the word embeddings.
        depth: layers of each LSTM.
        dropout: dropout between the layers of the LSTMs, of glocal vectors, and before the head.
        input_dropout: dropout of word embeddings.
        word_dropout: probability that the decoder reads ``UNKNOWN`` in place of a word, in training only.
        with_local: use the local features; without them all pictures of a story have the same vector, the mean of
            the outputs of the global LSTM.
        with_global: use the LSTM over the sequence of pictures.
        cascade: go on with the state of the sentence before; without it each sentence begins from zeros.
        meaning: size of the vectors of ``meanings``; 0 leaves out the layers of it and of ``page_words``.
    """

    def __init__(
        self,
        num_classes: Positive,
        in_features: Positive = 2048,
        width: Positive = 1024,
        hidden: Positive = 1024,
        embedding: Positive = 256,
        depth: Positive = 2,
        dropout: Probability = 0.5,
        input_dropout: Probability = 0.1,
        word_dropout: Probability = 0.0,
        with_local: bool = True,
        with_global: bool = True,
        cascade: bool = True,
        meaning: int = 0,
    ):
        super().__init__()
        if not (with_local or with_global):
            raise ZooError("model.with_local and model.with_global are both false; one of them has to see the pictures")
        self.in_features, self.cascade = in_features, cascade
        self.encoder = Glocal(in_features, width, hidden, depth, dropout, with_local, with_global)
        self.to_decoder = nn.Linear(2 * hidden, hidden)
        self.drop = nn.Dropout(dropout)
        self.embed = Words(num_classes, embedding, word_dropout)
        self.drop_words = nn.Dropout(input_dropout)
        between = dropout if depth > 1 else 0.0
        self.decoder = nn.LSTM(embedding + hidden, hidden, depth, batch_first=True, dropout=between)
        self.drop_out = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, num_classes)
        if meaning:
            self.of_picture = nn.Linear(in_features, meaning)
            self.of_words = nn.EmbeddingBag(num_classes, meaning, mode="sum")
            self.words_of = nn.Linear(width, num_classes)
            self.scale = nn.Parameter(torch.tensor(3.0))  # log of the factor of cosines, about 20
        for layer in (self.to_decoder, self.head):
            initialise(layer)

    def glances(self, pictures: Tensor) -> Tensor:
        """What the decoder sees of each picture: (B, N, in_features) -> (B, N, hidden)."""
        return F.relu(self.drop(self.to_decoder(self.encoder(pictures))))

    def forward(self, x: Story) -> Tensor:
        """The logits of the word after each word, (B, L, num_classes)."""
        glances = self.glances(x.pictures)  # (B, N, hidden)
        seen = glances.gather(1, x.page[..., None].expand(-1, -1, glances.shape[2]))  # (B, L, hidden)
        inputs = torch.cat([seen, self.drop_words(self.embed(x.words))], 2)
        outputs = self.decoder(inputs)[0] if self.cascade else self.apart(inputs, x)
        return self.head(self.drop_out(outputs))

    def apart(self, inputs: Tensor, x: Story) -> Tensor:
        """The decoder's outputs, (B, L, hidden), if each sentence begins from zeros."""
        pages = x.pictures.shape[1]
        starts = torch.searchsorted(x.page, torch.arange(pages, device=x.page.device).repeat(len(x.page), 1))
        place = torch.arange(x.page.shape[1], device=x.page.device) - starts.gather(1, x.page)  # within its sentence
        rows = torch.arange(len(x.page), device=x.page.device)[:, None]
        sentences = inputs.new_zeros(len(inputs), pages, *inputs.shape[1:])  # (B, N, L, embedding + hidden)
        sentences[rows, x.page, place] = inputs
        outputs = self.decoder(sentences.flatten(0, 1))[0].view(*sentences.shape[:3], -1)
        return outputs[rows, x.page, place]

    def step(self, words: Tensor, glances: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The logits (B, num_classes) after one more word each, (B,), with the pictures' glances (B, hidden)."""
        inputs = torch.cat([glances, self.embed(words)], 1)[:, None]
        outputs, after = self.decoder(inputs, state)
        return self.head(outputs[:, 0]), after

    # --- further objectives -----------------------------------------------------------------------------------------

    def page_words(self, pictures: Tensor) -> Tensor:
        """The log-odds that a word is in a page's sentences, from its picture alone: (B, N, num_classes)."""
        return self.words_of(self.encoder.local(pictures))

    def meanings(self, pictures: Tensor, bags: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (…, in_features) and words of pages (…, L) as vectors (…, meaning) of length 1 and √scale.

        Their inner products are scores of pages and pictures; token ``STOP`` does not count.
        """
        of_picture = F.normalize(self.of_picture(self.drop(pictures)), dim=-1)
        flat = bags.flatten(0, -2)
        summed = self.of_words(flat, per_sample_weights=(flat != STOP).to(of_picture.dtype))
        of_words = F.normalize(summed, dim=-1).view(*bags.shape[:-1], -1)
        return of_picture, of_words * self.scale.exp()


def initialise(layer: nn.Linear) -> None:
    """The initial weights of the authors' code: N(0, 0.02²), and zero biases."""
    nn.init.normal_(layer.weight, 0.0, 0.02)
    nn.init.zeros_(layer.bias)
