//! Which installs there are: one seam ([`Registry`]), two keepers. Standalone they are in a JetStream key-value bucket that
//! every process watches; beside an existing platform its HTTP API is asked (interop 6.1, 6.2).

mod seam;

pub use seam::{Change, HostTarget, Lookup, Registry, RegistryError};
