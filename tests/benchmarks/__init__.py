"""Speed and memory as ratios of two things measured side by side: `python -m tests.benchmarks`.

Each pair alternates in one process (memory and start-up: in fresh processes), on one torch thread; the ratio of a
round compares neighbours in time, and the median over rounds is quoted. No test asserts a time.
"""
