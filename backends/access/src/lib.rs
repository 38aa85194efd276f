//! Who may call what: bearer tokens of tenants, kept as hashes in a JetStream key-value bucket, and JWTs of an issuer that
//! the operator names.

mod seam;

pub use seam::{Access, Authenticate, Credential, Denied, Principal};
