"""What tests are made with: shops to start, customers, servers of their own, waiting for it all.

A shop is a :class:`tests.testkit.shop.Shop`, and :class:`tests.testkit.books.Books` reads what it
has stored. A customer is a :class:`tests.testkit.customer.Person` who comes by the API
(`Customer`), by pages without scripts (`visitor.Visitor`) or by a browser (`shopper.Shopper`); each
of the three has `bought`.

It knows the shop and `tools`, and no test.
"""
