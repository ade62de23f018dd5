"""The OpenAPI document of a deployment."""
