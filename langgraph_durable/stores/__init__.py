"""Where batches end up: one file per engine behind `base.Store`, and the lane that writes to it."""
