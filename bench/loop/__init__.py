"""
make bench-loop: PyLoop beside uvloop, asyncio and rloop, row by row.

Every loop has a process of its own in each round, and the rows take turns
between these processes, so that a slow minute of the machine hits all of
them.  Both ends of an echo run on the loop that is measured.  A figure is
the median of the rounds; a ratio is to uvloop, and above 1 is better, for
latencies and bytes as well.  CPU is that of the whole process, with its
children where these are the work.
"""
