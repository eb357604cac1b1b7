"""What an engine counts since its start. Comes in: tokens as sequences take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanotriton.engine.picking import Sampled


@dataclass(slots=True)
class Counts:
    """Steps and tokens; prompt tokens looked up and found in the slots; drafts and their luck."""

    num_steps: int = 0
    num_tokens: int = 0
    prefix_lookup_tokens: int = 0
    prefix_hit_tokens: int = 0
    num_drafted: int = 0
    num_accepted: int = 0

    def note(self, sampled: Sampled, tokens: Sequence[int]) -> None:
        """A sequence took tokens, which its draft may have foretold."""
        sequence = sampled.sequence
        is_first = bool(tokens) and sequence.num_completed == len(tokens)
        if is_first and sequence.index == 0:
            self.prefix_lookup_tokens += len(sequence.request.prompt)
            self.prefix_hit_tokens += sequence.num_reused
        self.num_tokens += len(tokens)
        self.num_drafted += len(sampled.draft)
        pairs = zip(sampled.draft, tokens, strict=False)
        self.num_accepted += sum(guess == token for guess, token in pairs)
