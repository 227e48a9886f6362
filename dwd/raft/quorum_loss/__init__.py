"""When a majority of a group's voters is gone for good: what survives is chosen, made whole, and fenced off."""
