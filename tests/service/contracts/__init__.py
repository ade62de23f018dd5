"""Tests of service/contracts."""
