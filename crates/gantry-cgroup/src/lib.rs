//! Control groups: what to make and write is planned purely; a thin edge carries it out.
