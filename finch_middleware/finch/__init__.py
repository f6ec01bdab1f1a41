"""Finch over HTTPS."""
