//! One TLS stack for the whole process.

/// Makes ring the process's TLS provider. Every client of ours names it explicitly or relies on this; calling it twice is fine.
pub fn install_provider() {
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
