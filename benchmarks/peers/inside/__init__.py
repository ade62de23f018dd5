"""Scripts that run inside a peer's environment: servers, converters, timed engines. Only ours imports this project."""
