//! Route netlink, as far as a runtime needs it.
