"""What happens to a video between its maker and the reader of its mark: a registry of seeded attacks.

An attack is named ``what.strength``; several in a row are joined by ``+`` in the order in which they happen. Each takes
a :class:`Clip` and a random generator and gives the bytes of a file, so whatever reads files can be measured with it.
"""

from eval.attacks.model import Attack, Clip, Encode, Maker, Still
from eval.attacks.registry import ATTACKS, DEFAULT, SETS, attack_named, attacks_named

__all__ = ["ATTACKS", "DEFAULT", "SETS", "Attack", "Clip", "Encode", "Maker", "Still", "attack_named", "attacks_named"]
