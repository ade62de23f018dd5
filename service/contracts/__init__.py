"""One file a contract; each translates a request to one call of the inferer and back."""
