"""Checks on built-in texts: parity with torch at export, and the golden set for servers."""
