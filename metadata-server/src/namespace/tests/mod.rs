//! Tests of the whole state machine; those of a single format sit beside it.

mod acls;
mod cluster_state;
mod exactly_once;
mod garbage;
mod golden_keys;
mod golden_records;
mod locks;
mod machine;
mod model;
mod model_acls;
mod model_files;
mod model_names;
mod operations;
mod pins;
mod random_commands;
mod random_steps;
mod readdir;
mod transaction_scan;
