"""What an application configures: options, their rules, and the rules about URLs."""
