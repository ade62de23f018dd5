"""Slow, greedy and malicious clients, on a real gunicorn."""
