"""Other servers and engines beside ours, for `make bench-peers`: pinned environments under build/peers."""
