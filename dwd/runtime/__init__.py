"""The machine underneath: clock, randomness, files, task supervision, background workers, pacing."""
