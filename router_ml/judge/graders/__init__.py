"""One file for each kind of grader."""
