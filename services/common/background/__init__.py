"""Work that no request waits for: jobs that run again and again, the leases that they work under,
and when to look at something again.
"""
