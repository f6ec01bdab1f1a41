"""Django: the callback is a view of the URLconf, and the CSRF protection is Django's own."""
