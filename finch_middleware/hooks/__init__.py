"""The application's own functions that are informed of something, and the log."""
