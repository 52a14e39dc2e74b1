"""Readers, data sets and generated data."""
