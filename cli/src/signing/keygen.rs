//! `longshore keygen`.

use std::path::PathBuf;
use std::process::ExitCode;

use longshore_bundle::signature::{KeyId, SigningKey, TrustBundle};
use serde_json::json;

use super::files;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Makes a key that signs bundles.
#[derive(Debug, Clone, clap::Args)]
pub struct KeygenArgs {
    /// The folder of the two files: KEY_ID.key.pem (private, readable by you alone) and KEY_ID.pub.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// The key's name in signatures and in the trust bundle; else made from the key itself
    #[arg(long, value_name = "ID")]
    pub key_id: Option<KeyId>,
    /// The day or moment from which its signatures count (2026-01-31 or 2026-01-31T12:00:00Z)
    #[arg(long, value_name = "DATE")]
    pub not_before: Option<String>,
    /// The last day or the moment until which its signatures count
    #[arg(long, value_name = "DATE")]
    pub not_after: Option<String>,
    /// The publisher whose bundles it may sign, several times for several; else everybody's
    #[arg(long = "publisher", value_name = "NAME")]
    pub publishers: Vec<String>,
}

/// Makes the key. Never overwrites one.
///
/// # Errors
/// A date or name that no trust bundle takes, or a file that is there or cannot be written.
pub fn keygen(args: &KeygenArgs, out: &Output) -> Result<ExitCode, Failure> {
    let key =
        SigningKey::generate().map_err(|error| Failure::new(Exit::Failed, "no_random", error.to_string()))?;
    let fingerprint = key.public().fingerprint();
    let id = args.key_id.clone().unwrap_or_else(|| fingerprint.clone());

    let mut entry = format!("Key-Id: {id}\n");
    let dates = [("Not-Before", &args.not_before), ("Not-After", &args.not_after)];
    let rules = dates.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in rules.chain(args.publishers.iter().map(|publisher| ("Publisher", publisher))) {
        if value.trim().is_empty() || value.chars().any(char::is_control) {
            return Err(Failure::usage(format!("{name}: a value without control characters is needed")));
        }
        entry.push_str(&format!("{name}: {value}\n"));
    }
    entry.push_str(&key.public().to_pem());
    // What is printed is what a fleet will read.
    TrustBundle::parse(&entry).map_err(|error| Failure::usage(error.problem))?;

    std::fs::create_dir_all(&args.out).map_err(|error| {
        Failure::new(Exit::Failed, "file_unwritable", format!("cannot make {}: {error}", args.out.display()))
    })?;
    let private = args.out.join(format!("{id}.key.pem"));
    let public = args.out.join(format!("{id}.pub.pem"));
    let secret = zeroize::Zeroizing::new(format!("Key-Id: {id}\n{}", *key.to_pem()));
    files::create(&private, &secret, 0o600)?;
    if let Err(failure) = files::create(&public, &entry, 0o644) {
        // Ours, made a moment ago: half a pair is no use.
        let _ = std::fs::remove_file(&private);
        return Err(failure);
    }
    let document = json!({
        "key_id": id.to_string(),
        "fingerprint": fingerprint.to_string(),
        "private_key": private,
        "public_key": public,
        "trust_entry": entry,
    });
    out.result(&document, || {
        format!(
            "Private key: {} (keep it secret; `longshore sign --key` takes it)\nPublic key:  {}\n\n\
             Append this to the file that SIGNING_TRUST_BUNDLE names; running workers read it within a second:\n\n{entry}",
            private.display(),
            public.display()
        )
    });
    Ok(Exit::Ok.into())
}
