"""One thin file per DVC stage: read params, call the workflow, write outputs, log."""
