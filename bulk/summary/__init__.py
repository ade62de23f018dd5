"""A summary of a scored table, for people: counts, scores, errors, examples and drift, in one HTML file."""
