"""What a service tells of itself: logs, metrics, traces, health, and how it starts and stops.

Knows nothing of mail; everything else may use it.
"""
