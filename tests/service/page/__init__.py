"""Tests of service/page."""
