"""Data preparation for query_type: lists of names, raw files, WordNet synonyms and balanced classes."""
