//! eBPF programs of the device controller.
