"""Tests of bulk: tables, the engine, and jobs that are killed."""
