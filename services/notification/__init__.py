"""notification: the inbox of every customer, and e-mail."""
