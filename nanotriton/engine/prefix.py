"""The prefix cache: what the slots hold, which of it a prompt starts from, which slot it gets.

Comes in: prompts as token ids, and users' names. Goes out: slots, and copies between them for the
runner. Token for token exact: positions count from a prompt's beginning, so one that was cut on
the left simply shares no beginning with what it was before. An engine serves one version of one
model, so nothing that is held can be of another. Knows nothing of the memory, clocks or requests.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from nanotriton.engine.kv_slots import KVSlots
from nanotriton.runners.base import Copy

# A decode batch runs over all slots between its first and its last; the rows in between cost time
# and bring nothing. A copy costs less than one step with more of them than this.
MAX_DEAD_ROWS = 3
# A shorter beginning is computed as fast as it is copied, and half the prompts share one.
MIN_SHARED_TOKENS = 8


@dataclass(slots=True)
class _Holding:
    """Whose tokens a slot holds: as many of `tokens` as the slot's length says."""

    tokens: Sequence[int]
    user: str
    family: Hashable
    used_at: int


@dataclass(frozen=True, slots=True)
class Match:
    """The first `length` tokens in `slot` are those that were asked for."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Place:
    """A slot whose first `num_reused` tokens are the sequence's; the copies make room in it."""

    slot: int
    num_reused: int
    copies: tuple[Copy, ...]


class PrefixCache:
    """Keeps what ended sequences leave in their slots until the slots are needed.

    What goes first is what is worth least: tokens held, divided by how many placements ago they
    were last used. Without `is_on` it only gives slots. With `isolate_users` a sequence starts
    from nothing but what the same user left, and without a user's name from nothing at all. Those
    of one family, the texts of one request, always start from the prompt that one of them computed.
    """

    def __init__(self, slots: KVSlots, is_on: bool = True, isolate_users: bool = False) -> None:
        self.num_evictions = 0
        self._slots = slots
        self._is_on = is_on
        self._isolate_users = isolate_users
        self._holdings: dict[int, _Holding] = {}
        self._num_placed = 0

    def place(self, tokens: Sequence[int], user: str, family: Hashable = None) -> Place:
        """Give a sequence its slot; one that holds its beginning already, if that is near."""
        self._num_placed += 1
        match = self.find(tokens, user)
        relative = self._find_relative(tokens, family)
        if match:
            self._holdings[match.slot].used_at = self._num_placed
        if relative:
            place = self._copy(relative)
        elif match and self._may_continue(match):
            place = Place(match.slot, match.length, ())
        else:
            place = self._make_room()
        self._slots.take(place.slot)
        self._slots.lengths[place.slot] = place.num_reused
        self._holdings[place.slot] = _Holding(tokens, user, family, self._num_placed)
        return place

    def hand_over(self, slot: int, tokens: Sequence[int]) -> int:
        """Let a used slot go on with the tokens of a relative; how many of them it holds."""
        self._holdings[slot].tokens = tokens
        self._slots.lengths[slot] = len(tokens) - 1
        return len(tokens) - 1

    def share(self, slot: int, tokens: Sequence[int], user: str) -> Copy | None:
        """The copy that gives a placed sequence a longer beginning than its slot holds, if any."""
        match = self.find(tokens, user, besides=slot)
        if not match or match.length < self._slots.lengths[slot] + MIN_SHARED_TOKENS:
            return None
        if match.slot in self._slots.free and self._is_most(match):
            self._forget(match.slot)  # the text goes on in the other slot
        self._slots.lengths[slot] = match.length
        return Copy(match.slot, slot, match.length)

    def gather(self, slots: Sequence[int]) -> tuple[int, Place] | None:
        """Bring used slots together: which of them moves, and where to; None when none should.

        Where sequences end, gaps stay between those that go on; the outermost moves into one.
        """
        ordered = sorted(slots)
        if not slots or ordered[-1] - ordered[0] < len(slots):
            return None  # there are no rows in between
        is_last = ordered[-1] - ordered[-2] >= ordered[1] - ordered[0]
        slot = ordered.pop() if is_last else ordered.pop(0)
        inside = self._slots.free.intersection(range(ordered[0], ordered[-1] + 1))
        beside = self._slots.free.intersection((ordered[0] - 1, ordered[-1] + 1))
        if not (inside or beside):
            return None
        room = self._vacate(inside or beside)
        length = int(self._slots.lengths[slot])
        self._holdings[room.slot] = self._holdings.pop(slot)
        self._slots.take(room.slot)
        self._slots.lengths[room.slot] = length
        self._slots.release(slot)
        return slot, Place(room.slot, length, (*room.copies, Copy(slot, room.slot, length)))

    def release(self, slot: int, is_sound: bool = True) -> None:
        """Give a slot back, and keep what it holds unless that may be wrong."""
        if self._is_on and is_sound:
            self._holdings[slot].used_at = self._num_placed
            self._slots.release(slot, int(self._slots.lengths[slot]))
        else:
            del self._holdings[slot]
            self._slots.release(slot)

    def clear(self) -> None:
        """Forget what every free slot holds."""
        for slot in self._slots.free:
            self._forget(slot)

    def find(self, tokens: Sequence[int], user: str, besides: int | None = None) -> Match | None:
        """The slot that holds most of a prompt's beginning; its last token is never counted.

        That one has to be computed, or there would be no logits to go on from.
        """
        best = None
        least, most = 0, len(tokens) - 1
        for slot, holding in self._holdings.items():
            limit = min(most, int(self._slots.lengths[slot]))
            if slot == besides or limit <= least or not self._may_share(holding, user):
                continue
            if holding.tokens[: least + 1] == tokens[: least + 1]:
                least = common_length(holding.tokens, tokens, limit)
                best = Match(slot, least)
        return best

    def _find_relative(self, tokens: Sequence[int], family: Hashable) -> Match | None:
        """A used slot of the family that holds all that a new text of it can start from."""
        length = len(tokens) - 1
        for slot in self._holdings.keys() - self._slots.free:
            holding = self._holdings[slot]
            if family is None or holding.family != family or self._slots.lengths[slot] < length:
                continue
            if length and holding.tokens[:length] == tokens[:length]:
                return Match(slot, length)
        return None

    def _copy(self, match: Match) -> Place:
        """A slot that starts as a copy of a used one."""
        room = self._make_room()
        copy = Copy(match.slot, room.slot, match.length)
        return Place(room.slot, match.length, (*room.copies, copy))

    def _may_share(self, holding: _Holding, user: str) -> bool:
        if not self._is_on:
            return False
        return not self._isolate_users or (user != "" and holding.user == user)

    def _may_continue(self, match: Match) -> bool:
        """Whether to go on inside the found slot rather than on a copy of it."""
        if match.slot not in self._slots.free or self._dead_rows(match.slot) > MAX_DEAD_ROWS:
            return False
        return self._is_most(match)

    def _is_most(self, match: Match) -> bool:
        """Whether the slot holds little else: as a rule the answer to the question before."""
        return 2 * match.length >= int(self._slots.lengths[match.slot])

    def _make_room(self) -> Place:
        """A slot near the running ones; what it held moves into the least valuable slot."""
        free = self._slots.free
        nearest = min(self._dead_rows(slot) for slot in free)
        return self._vacate(one for one in free if self._dead_rows(one) == nearest)

    def _vacate(self, slots: Iterable[int]) -> Place:
        """The least valuable of these free slots; what it held moves into that of all."""
        slot = min(slots, key=lambda one: (self._value(one), self._dead_rows(one), one))
        least = min(self._slots.free, key=lambda one: (self._value(one), one))
        is_worth_moving = self._value(least) < self._value(slot)
        self.num_evictions += int(self._value(least) > 0)
        if not is_worth_moving:
            self._forget(slot)
            return Place(slot, 0, ())
        length = int(self._slots.lengths[slot])
        self._holdings[least] = self._holdings.pop(slot)
        self._slots.lengths[least] = length
        return Place(slot, 0, (Copy(slot, least, length),))

    def _forget(self, slot: int) -> None:
        self._holdings.pop(slot, None)
        self._slots.lengths[slot] = 0

    def _value(self, slot: int) -> float:
        holding = self._holdings.get(slot)
        if holding is None:
            return 0.0
        return int(self._slots.lengths[slot]) / (1 + self._num_placed - holding.used_at)

    def _dead_rows(self, slot: int) -> int:
        """Rows without a sequence that the slot's use would add to a decode batch."""
        used = self._holdings.keys() - self._slots.free
        return max(0, slot - max(used) - 1, min(used) - slot - 1) if used else 0


def common_length(some: Sequence[int], others: Sequence[int], limit: int) -> int:
    """How many of the first `limit` tokens are equal, by halving: slices compare quickly."""
    least, most = 0, limit
    while least < most:
        middle = (least + most + 1) // 2
        if some[least:middle] == others[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
