"""What an application configures: the options, and the rules about URLs."""
