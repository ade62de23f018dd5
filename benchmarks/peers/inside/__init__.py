"""Scripts that run inside a peer's environment: servers, converters, timed engines. None imports this project."""
