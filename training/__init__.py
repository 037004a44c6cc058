"""Training runs to look at: data, small models and one loop that records what it does."""
