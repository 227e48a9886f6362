"""The thinking of the block store: profiles, layouts, placement. Pure: no I/O, clock or randomness."""
