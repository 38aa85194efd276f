//! Signatures of bundles, for authors and operators: `keygen`, `sign`, `verify`. None of them needs a fleet.

mod files;
mod keygen;
mod sign;
mod verify;

#[cfg(test)]
mod tests;

pub use files::signature_path;
pub use keygen::{KeygenArgs, keygen};
pub use sign::{SignArgs, sign};
pub use verify::{VerifyArgs, verify};
