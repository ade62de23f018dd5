"""The search of `--auto`: a few settings, tried within a time budget."""
