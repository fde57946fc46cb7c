"""What the mesh page shows: the call graph with its figures, the kept traces, and the waterfall of
the calls behind a page. Its routes are in `pages`.
"""
