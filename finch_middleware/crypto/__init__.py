"""The vault and its keys."""
