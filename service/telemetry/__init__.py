"""The signals of the service: log lines, metrics, and traces."""
