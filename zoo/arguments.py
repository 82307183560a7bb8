"""What a signature says of its arguments beside their types: ranges, and that the rest are those of the base class.

``zoo/config/checks.py`` reads it where a config is checked. Imports no torch.
"""

from math import inf
from typing import Annotated, Any, NamedTuple


class Range(NamedTuple):
    """The numbers that an argument takes, both ends included; in a list or a mapping each number is checked."""

    low: float = -inf
    high: float = inf


Probability = Annotated[float, Range(0, 1)]
Positive = Annotated[int, Range(low=1)]
NonNegative = Annotated[float, Range(low=0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]


class OfBase:
    """Marks ``**arguments`` as those of the base class's constructor, which takes no others."""


Inherited = Annotated[Any, OfBase()]
