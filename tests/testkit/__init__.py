"""What tests are made with: shops to start, customers, servers of their own, waiting for it all.

It knows the shop and `tools`, and no test.
"""
