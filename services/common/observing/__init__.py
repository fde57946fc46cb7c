"""What a process shows of itself: logs, metrics, traces, and its recent traffic."""
