"""The model bundle on disk: files, manifest and golden set."""
