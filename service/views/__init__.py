"""Views that serve no prediction: health, info, metrics, description, pages."""
