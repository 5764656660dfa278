"""The traffic table's columns: one row is one prompt answered by one model."""

from __future__ import annotations

import polars as pl

__all__ = ["EPOCH_UNITS", "REQUIRED", "SCHEMA", "SIMULATED"]

SCHEMA = pl.Schema(
    {
        "prompt_id": pl.String(),
        "prompt": pl.String(),
        "model": pl.String(),
        "response": pl.String(),
        "quality": pl.Float64(),
        "input_tokens": pl.Int64(),
        "output_tokens": pl.Int64(),
        "cost_usd": pl.Float64(),
        "latency_ms": pl.Float64(),
        "created_at": pl.Datetime("us", "UTC"),
        "session_id": pl.String(),
        "propensity": pl.Float64(),
        "source": pl.String(),
        "category": pl.String(),
    }
)
"""Column names and types, in order."""

EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Numbers from here on are times since 1970 in such parts of a second, smaller ones in seconds: as the next larger unit each would be
the year 5138."""

REQUIRED = ("prompt", "model")
"""Columns that every source has to bring; the others are null where it lacks them."""

SIMULATED = "simulated"
"""The source of rows that the bundled generator made up; reports say so before any figure."""
