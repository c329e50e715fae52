"""Short programs that use public names only."""
