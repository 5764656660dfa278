"""Cleaning of traffic: redaction, duplicates, languages and lengths, and the data card that sums them up."""
