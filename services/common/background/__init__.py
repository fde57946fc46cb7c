"""Work outside of requests: periodic jobs, the detection of stalled work, and the times at which
something is checked again.
"""
