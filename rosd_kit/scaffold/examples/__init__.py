"""One plugin a slot, each a file of its own: what `rosd-kit plugins new` begins with, `Example` under the author's name."""
