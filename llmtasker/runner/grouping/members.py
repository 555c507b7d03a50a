"""Member and Group: which inputs go into one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llmtasker.runner.grouping.group_limits import GroupLimits
from llmtasker.runner.row import Row
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.group_format import anchor_of, folded, ids_of, looks_like_blocks, opening_of, write_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One input that may be grouped: its row, how it is shown, and the anchor that its answer must repeat (folded).

    `length` is the length of its part of a request, in characters of JSON text.
    """

    row: Row
    shown: str
    anchor: str
    opening: str
    length: int

    @classmethod
    def of(cls, row: Row, shown: str) -> Member | None:
        """Return the member for a row; None if it must be asked alone.

        That is a row without words, because its answer could not be distinguished from others, or a row with
        the tags that separate the inputs of a group.
        """
        anchor = folded(anchor_of(shown))
        if not anchor or looks_like_blocks(shown):
            return None
        length = len(shown) if shown.isascii() else len(canonical_json(shown))
        return cls(row=row, shown=shown, anchor=anchor, opening=opening_of(shown), length=length)

    def is_like(self, other: Member) -> bool:
        """Return whether the two could be mixed up unnoticed, because one starts like the other."""
        return self.opening.startswith(other.anchor) or other.opening.startswith(self.anchor)


@dataclass(frozen=True)
class Group:
    """The members of one message."""

    members: Sequence[Member]

    @cached_property
    def ids(self) -> list[str]:
        """The ids of the members."""
        return ids_of([member.shown for member in self.members])

    @property
    def length(self) -> int:
        """Characters of all members, as JSON text."""
        return sum(member.length for member in self.members)

    def blocks(self) -> str:
        """Return the inputs as one text."""
        return write_blocks(self.ids, [member.shown for member in self.members])


def next_group(waiting: Mapping[int, Member], size: int, limits: GroupLimits) -> list[int]:
    """Return the places of the next group's members, at most `size`, always including the first one waiting.

    They share their variables and labels, no two start alike, and together they fit the limits. The last groups are
    about equal in size.
    """
    most = max(1, min(size, limits.most))
    even = -(-len(waiting) // -(-len(waiting) // most))
    group: list[int] = []
    length = 0
    for place, member in waiting.items():
        if len(group) == even:
            break
        if group and length + member.length > limits.input:
            continue
        if group and member.row.inputs.variant is not waiting[group[0]].row.inputs.variant:
            continue
        if not any(member.is_like(waiting[other]) for other in group):
            group.append(place)
            length += member.length
    return group
