"""The daemon's settings: one TOML file, overrides from the environment, all faults found at once."""
