//! The admin service: installs, tokens, bundles and pools, for operators' programs, behind a token and on a listener of
//! its own.

pub mod api;
