"""fit: an encoder becomes an expert on the user's labels."""
