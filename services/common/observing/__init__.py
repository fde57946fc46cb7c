"""What a process shows about itself: logs, metrics, traces, and its recent traffic."""
