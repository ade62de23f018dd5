"""Helpers of the tests: bundles, servers, browsers and loads."""
