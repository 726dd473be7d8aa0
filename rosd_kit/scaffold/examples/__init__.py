"""One example plugin per slot, one file each. `rosd-kit plugins new` copies one and renames `Example`."""
