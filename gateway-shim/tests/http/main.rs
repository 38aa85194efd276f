//! The HTTP side over real sockets, with a hand-written dispatcher at its seam.

mod execute;
mod server;
mod streams;
mod support;
