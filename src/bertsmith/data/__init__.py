"""read, check, split and encode: from the user's file to token ids."""
