"""Tests of tokens: encoding, truncation, and the cuts of long texts."""
