"""A stand-in for the part of Stripe that the shop uses, for runs without a Stripe key.

It is a process of its own that knows nothing of the shop, as the real Stripe does not. It speaks
Stripe's API v1 for PaymentIntents of test cards and for refunds, keeps idempotency keys as Stripe
does, can be told to misbehave (``/sandbox/faults``, or the page ``/faults``) and lets tests look
into its books (``/sandbox/ledger``). Not there: customers, charges as objects of their own,
``expand``, webhooks.

Run it with ``python -m stand_ins.stripe``; `settings` lists what it can be told.
"""
