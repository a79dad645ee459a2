"""What the saver decides, with no I/O, no threads, no event loop and no clock in it."""
