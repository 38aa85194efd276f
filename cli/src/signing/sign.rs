//! `longshore sign`.

use std::path::PathBuf;
use std::process::ExitCode;

use longshore_bundle::signature::{Identity, KeyId};
use serde_json::json;

use super::files;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Signs a bundle.
#[derive(Debug, Clone, clap::Args)]
pub struct SignArgs {
    /// The bundle (bundle.tar.zst)
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// The private key: a file of `longshore keygen` or any Ed25519 key in PKCS#8 PEM
    #[arg(long, value_name = "FILE", env = "LONGSHORE_SIGNING_KEY_FILE")]
    pub key: PathBuf,
    /// The key's name in the trust bundle; else what `keygen` wrote into the file, or made from the key itself
    #[arg(long, value_name = "ID")]
    pub key_id: Option<KeyId>,
    /// Where the signature goes; else beside the bundle: bundle.sig for bundle.tar.zst
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Signs it. A signature that is there is replaced: a bundle is signed again when a key is withdrawn.
///
/// # Errors
/// A bundle that no worker would take, a manifest that names nothing, a file that is no key, or that cannot be written.
pub fn sign(args: &SignArgs, out: &Output) -> Result<ExitCode, Failure> {
    let (key, named) = files::signing_key(&args.key, out)?;
    let (hash, manifest) = files::bundle(&args.bundle)?;
    let identity = Identity::of(manifest.as_ref()).map_err(|error| {
        Failure::invalid("no_identity", format!("{} cannot be signed: {error}", args.bundle.display()))
            .hint("a signature vouches for publisher, name and version: pack it with a valid manifest.json")
    })?;
    let id = args.key_id.clone().or(named).unwrap_or_else(|| key.public().fingerprint());
    let now = std::time::SystemTime::now().into();
    let signature = key.sign(id.clone(), hash, identity.clone(), now);
    let path = args.out.clone().unwrap_or_else(|| files::signature_path(&args.bundle));
    if path == args.bundle {
        return Err(Failure::usage("--out is the bundle itself: name another file"));
    }
    files::replace(&path, &signature.to_json())?;
    let document = json!({
        "key_id": id.to_string(),
        "content_hash": hash.to_string(),
        "publisher": identity.publisher(),
        "name": identity.name(),
        "version": identity.version(),
        "signed_at": signature.signed_at,
        "signature": path,
    });
    out.result(&document, || {
        format!("Signed {identity}\n  {hash}\n  with key {id}\n  signature: {}", path.display())
    });
    Ok(Exit::Ok.into())
}
