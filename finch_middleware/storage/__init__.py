"""Where connections and attempts are kept: one file or folder a backend, and the spool."""
