//! Rules as messages of nf_tables.
