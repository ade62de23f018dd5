"""Tests of deploy/ and compose.yaml."""
