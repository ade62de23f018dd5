"""A recipe: the options of a run, from TOML and flags."""
