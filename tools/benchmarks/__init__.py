"""What ``make bench`` measures: workloads, each framework's version of them, and the processes that time them."""
