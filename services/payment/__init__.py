"""payment: authorizes, captures, voids and refunds through Stripe."""
