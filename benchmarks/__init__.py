"""Everything that measures: ours beside published recipes, guarantees, off-policy estimates, the default decision, speed."""
