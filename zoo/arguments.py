"""Annotations for arguments in a signature: the range of valid numbers, and ``**arguments`` of the base class.

``zoo/config/checks.py`` reads them when it checks a config. Imports no torch.
"""

from math import inf
from typing import Annotated, Any, NamedTuple


class Range(NamedTuple):
    """The valid range of a numeric argument, both ends included; in a list or a mapping every number is checked."""

    low: float = -inf
    high: float = inf


Probability = Annotated[float, Range(0, 1)]
Positive = Annotated[int, Range(low=1)]
NonNegative = Annotated[float, Range(low=0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]


class OfBase:
    """Marks ``**arguments`` as arguments of the base class's constructor; any other name is an error."""


Inherited = Annotated[Any, OfBase()]
