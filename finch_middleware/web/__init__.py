"""What people and scripts send and get: requests read, pages and responses written."""
