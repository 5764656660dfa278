"""Export: the artifact and its checks, smaller artifacts, artifacts that take text."""
