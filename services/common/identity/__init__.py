"""Who the user is: access tokens, and the dependency by which a route gets its caller."""
