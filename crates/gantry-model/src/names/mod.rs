//! Names of the kernel and the specification, and the numbers they stand for.
