"""Preparation of a ranker's first step: pairs of texts with the similarity that the encoder itself finds."""
