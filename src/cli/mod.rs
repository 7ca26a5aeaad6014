//! The command line (to be written).

pub mod sample_app;
