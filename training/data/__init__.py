"""Labelled texts from files, folders, addresses and the hub."""
