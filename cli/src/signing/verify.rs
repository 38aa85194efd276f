//! `longshore verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use longshore_bundle::chain;
use longshore_bundle::signature::{Policy, SIGNATURE_BYTES, TrustError, Verifier};
use serde_json::json;

use super::files;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Checks a bundle's signature as a worker does.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The bundle (bundle.tar.zst)
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// The signature; else beside the bundle: bundle.sig for bundle.tar.zst
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// The trust bundle: the file with the public keys whose signatures count
    #[arg(long, value_name = "FILE", env = "SIGNING_TRUST_BUNDLE")]
    pub trust: PathBuf,
}

/// Checks it.
///
/// # Errors
/// The signature does not count: exit code 1, with the verdict as the failure's code. Files that cannot be used have
/// codes of their own.
pub fn verify(args: &VerifyArgs, out: &Output) -> Result<ExitCode, Failure> {
    let verifier = Verifier::open(Policy::Require, Some(&args.trust)).map_err(|error| {
        let message = chain(&error);
        match error {
            TrustError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Failure::not_found("file_not_found", message)
            }
            TrustError::Read { .. } => Failure::new(Exit::Failed, "file_unreadable", message),
            TrustError::Syntax { .. } | TrustError::Policy | TrustError::NoTrustBundle => {
                Failure::invalid("trust_bundle_invalid", message)
            }
        }
    })?;
    // A policy other than `off` gives one.
    let verifier = verifier.ok_or_else(|| Failure::usage("signatures are not looked at"))?;
    let (hash, manifest) = files::bundle(&args.bundle)?;
    let path = args.signature.clone().unwrap_or_else(|| files::signature_path(&args.bundle));
    let signature = match files::read(&path, "the signature", SIGNATURE_BYTES as u64) {
        Ok(signature) => Some(signature),
        // Not named and not there: the bundle is unsigned, which is a verdict.
        Err(failure) if args.signature.is_none() && failure.exit == Exit::NotFound => None,
        Err(failure) => return Err(failure),
    };
    let verified = verifier.verify(hash, manifest.as_ref(), signature.as_deref()).map_err(|error| {
        let message = format!("{}: not valid ({}): {error}", args.bundle.display(), error.kind());
        let signature = signature.is_some().then_some(&path);
        Failure::new(Exit::Failed, error.kind(), message).details(json!({
            "valid": false,
            "content_hash": hash.to_string(),
            "signature": signature,
        }))
    })?;
    let document = json!({
        "valid": true,
        "key_id": verified.key_id.to_string(),
        "content_hash": hash.to_string(),
        "publisher": verified.identity.publisher(),
        "name": verified.identity.name(),
        "version": verified.identity.version(),
        "signed_at": verified.signed_at,
        "signature": path,
    });
    out.result(&document, || {
        format!(
            "Valid: {}\n  {hash}\n  signed with key {} at {}",
            verified.identity, verified.key_id, verified.signed_at
        )
    });
    Ok(Exit::Ok.into())
}
