"""SQL databases, through SQLAlchemy."""
