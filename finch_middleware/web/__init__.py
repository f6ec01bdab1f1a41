"""Reads the requests of people and scripts, and makes the pages and responses they get."""
