//! To be written.

pub mod init;
mod nginx_text;
