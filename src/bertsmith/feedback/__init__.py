"""feedback: what people said of answers, kept in a database, read again, and learned from."""
