"""Simulated instruments: a driver without a wire, and real servers that replay recorded data."""
