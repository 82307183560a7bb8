"""Connected parts of a mask, and which of them belong to one object."""

from dataclasses import dataclass

import numpy as np

CLOSE = 0.12  # gap between parts of one object, as a part of the taller one's height
STACKED = 0.35  # the same for parts above each other, such as the hat of a 5


@dataclass(frozen=True)
class Part:
    """A connected part of a mask: its label, its box (right and bottom excluded), and the weight of its pixels."""

    label: int
    left: int
    top: int
    right: int
    bottom: int
    weight: float

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def longest(self) -> int:
        return max(self.width, self.height)


def labelled(mask: np.ndarray) -> np.ndarray:
    """Numbers of the parts of a mask whose pixels touch (8 neighbours): 1, 2, …; 0 outside of the mask."""
    h, w = mask.shape
    index = np.full((h + 1, w + 2), -1)
    index[:h, 1:-1][mask] = np.arange(mask.sum())
    here = index[:h, 1:-1]
    neighbours = (index[:h, 2:], index[1:, 1:-1], index[1:, 2:], index[1:, :-2])
    pairs = [np.stack([here, other])[:, (here >= 0) & (other >= 0)] for other in neighbours]
    a, b = np.concatenate(pairs, 1)
    parent = np.arange(int(mask.sum()))
    while len(a):  # each round joins trees, and then points every pixel to its root
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent != (parent := parent[parent])).any():
            pass
        a, b = parent[a], parent[b]
        a, b = a[a != b], b[a != b]
    labels = np.zeros((h, w), int)
    labels[mask] = np.unique(parent, return_inverse=True)[1] + 1
    return labels


def parts_of(labels: np.ndarray, weights: np.ndarray) -> list[Part]:
    """The parts with the sum of each part's weights, by weight, the heaviest first."""
    y, x = np.nonzero(labels)
    if not len(y):
        return []
    label = labels[y, x]
    n = int(label.max()) + 1
    left, top, right, bottom = np.full(n, 10**9), np.full(n, 10**9), np.zeros(n, int), np.zeros(n, int)
    np.minimum.at(left, label, x)
    np.minimum.at(top, label, y)
    np.maximum.at(right, label, x + 1)
    np.maximum.at(bottom, label, y + 1)
    weight = np.bincount(label, weights[y, x], n)
    parts = [Part(i, int(left[i]), int(top[i]), int(right[i]), int(bottom[i]), float(weight[i])) for i in range(1, n)]
    return sorted(parts, key=lambda part: -part.weight)


def gap(a: Part, b: Part) -> tuple[int, int]:
    """The distances between two boxes in x and y; negative where they overlap."""
    return max(a.left, b.left) - min(a.right, b.right), max(a.top, b.top) - min(a.bottom, b.bottom)


def belong(a: Part, b: Part) -> bool:
    """Whether two parts are of one object: nearly touching, or above each other like the hat of a 5 and its body."""
    x, y = gap(a, b)
    height = max(a.longest, b.longest)
    if max(x, y) <= CLOSE * height and (min(x, y) < 0 or max(x, 0) + max(y, 0) <= CLOSE * height):
        return True
    return -x >= 0.4 * min(a.width, b.width) and y <= STACKED * height


def joined(parts: list[Part]) -> Part:
    """One part with the label of the first and the box around all."""
    return Part(
        parts[0].label,
        min(p.left for p in parts),
        min(p.top for p in parts),
        max(p.right for p in parts),
        max(p.bottom for p in parts),
        sum(p.weight for p in parts),
    )


def objects(parts: list[Part]) -> list[list[Part]]:
    """The parts of each object, the heaviest object first."""
    groups: list[list[Part]] = [[part] for part in parts]
    merged = True
    while merged:
        merged = False
        for i, group in enumerate(groups):
            for j in range(i + 1, len(groups)):
                if belong(joined(group), joined(groups[j])):
                    groups[i] = group + groups.pop(j)
                    merged = True
                    break
            if merged:
                break
    return sorted(groups, key=lambda group: -sum(part.weight for part in group))
