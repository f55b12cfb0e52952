"""Which program answers whom.

Invariant: the arm of a key is a function of key, salt and share alone, the same in every process and every version.
"""

import hashlib
from enum import StrEnum

from cascade.errors import DefinitionError


class Arm(StrEnum):
    """One of the two programs that serve."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


def assign(key: str, *, salt: str, share: float) -> Arm:
    """Say which program answers a key.

    Each key has a fixed place from 0 to 1, the first 53 bits of SHA-256 of the salt's length, the salt and the key; it
    is the challenger's if its place is below `share`. So raising the share takes nobody back from the challenger, and
    under another salt all places are drawn anew.

    >>> assign("user-1", salt="qa/7", share=0.5).value
    'challenger'

    Args:
        key: what stays the same for as long as one person, or whatever the outcome belongs to, should see one program.
        salt: of this test. Another test needs another one: else its challenger gets the same people again.
        share: of the keys that the challenger answers, from 0 to 1.

    Raises:
        DefinitionError: a share outside 0 to 1, or an empty key, which all who have none would have in common.
    """
    if not 0 <= share <= 1:
        raise DefinitionError(f"The challenger's share is {share}: give a fraction from 0 to 1, such as 0.1.")
    if not key:
        raise DefinitionError("A key of an A/B test is '': give a user's or session's id, or a new random one.")
    text = f"{len(salt)}:{salt}:{key}".encode("utf-8", "surrogatepass")
    place = int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 11
    return Arm.CHALLENGER if place < share * 2**53 else Arm.CHAMPION
