//! Scheduling, I/O priority, NUMA policy, execution domain.
