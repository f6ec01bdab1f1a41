"""The examples, each behind its own server, as a person in a browser meets them."""
