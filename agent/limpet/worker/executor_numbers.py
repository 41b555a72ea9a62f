"""The numbers by which a worker names executors and shadows to the supervisor."""

from itertools import count

executor_numbers = count(1)
