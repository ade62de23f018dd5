"""Sources of checkpoints: folders of every kind, and models of the hub."""
