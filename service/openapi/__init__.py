"""The OpenAPI description of a deployment."""
