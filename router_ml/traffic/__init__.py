"""The traffic table: reading, validation, labels, splits, and the simulated sample. Needs the extra ``train``."""
