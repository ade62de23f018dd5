"""Request and reply formats of the service and of other servers' clients."""
