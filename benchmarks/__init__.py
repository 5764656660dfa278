"""Everything that measures: published recipes, guarantees, off-policy estimates, the default decision, speed."""
