"""Work that no request waits for: jobs that run again and again, the detector of work that has
stalled, and when to look at something again.
"""
