"""Django: Finch's views are in the URLconf, and the CSRF protection is Django's own."""
