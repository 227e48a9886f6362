"""What every package may use: errors, ids, units, limits, clocks. Pure values, no I/O."""
