"""Encoders, learners, calibration and export. Needs the extra ``train``."""
