"""What a provider counted for calls that were made tells how its tokens relate to the estimate of the next.

`tokens = overhead + ratio * estimate`: the overhead is what was sent beside the messages, such as tools; the ratio is
how the tokenizer differs from the estimate. The line goes through the last call, so that only what came after it is
guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

STEP = 256
"""Two calls tell a ratio when their estimates are this far apart; nearer, rounding would."""

LEAST, MOST = 0.75, 2.5
"""What a ratio may be: no tokenizer makes so little of a text, or so much."""

BESIDE = 0.9
"""The share of a budget that may be beside the messages: more is a provider that counted several calls as one."""


class Calibration(NamedTuple):
    """How the tokens of one model relate to the estimate, and the call that told so (`estimate`, `tokens`)."""

    ratio: float = 1.0
    overhead: float = 0.0
    estimate: int = 0
    tokens: int = 0

    def learned(self, estimate: int, tokens: int) -> Calibration:
        """With what a further call told: that much was estimated, and that much was counted."""
        if estimate <= 0 or tokens < LEAST * estimate:
            return self  # an answer to another prompt, or one with images that cost less than they are taken for
        apart = estimate - self.estimate
        if self.tokens and abs(apart) >= STEP:
            ratio = (tokens - self.tokens) / apart
        elif self.tokens:
            ratio = self.ratio
        else:
            # The first call cannot tell one from the other: what is too much for the text is beside it.
            ratio = min(tokens / estimate, 1.0)
        ratio = min(max(ratio, LEAST), MOST)
        overhead = tokens - ratio * estimate
        if overhead < 0:
            ratio, overhead = min(max(tokens / estimate, LEAST), MOST), 0.0
        return Calibration(ratio, overhead, estimate, tokens)

    def counted(self, estimate: int) -> int:
        """About how many tokens a call with this estimate is, as its provider will count."""
        return int(self.overhead + self.ratio * estimate + 0.999)

    def within(self, tokens: int) -> int:
        """The estimate that stays within so many tokens."""
        return max(1, int((tokens - min(self.overhead, tokens * BESIDE)) / self.ratio))

    @classmethod
    def read(cls, kept: object) -> Calibration:
        """What was kept in a state; a new one where that is none."""
        if isinstance(kept, Sequence) and len(kept) == 4 and all(isinstance(part, (int, float)) for part in kept):
            ratio, overhead, estimate, tokens = kept
            if LEAST <= ratio <= MOST and overhead >= 0:
                return cls(float(ratio), float(overhead), int(estimate), int(tokens))
        return cls()
