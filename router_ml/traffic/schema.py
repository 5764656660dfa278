"""The traffic table's columns: one row is one prompt answered by one model."""

from __future__ import annotations

import polars as pl

__all__ = ["REQUIRED", "SCHEMA"]

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

REQUIRED = ("prompt", "model")
"""Columns that every source has to bring; the others are null where it lacks them."""
