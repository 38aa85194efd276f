//! `longshore install`: a folder, an archive or what is in the store already, put in force for a tenant.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use longshore_admin::api::{
    BundleUploaded, DEFAULT_WAIT_MS, Grant, InstallRequest, InstallResponse, LimitView, Outcome, Plain,
    SignatureStored, WarmState,
};
use longshore_proto::call::CaptureLevel;
use longshore_proto::{ContentHash, ExtensionId, PoolName, TenantId};

use super::client::Route;
use super::spans::show_millis;
use super::{AdminClient, FleetArgs, Place, TenantArgs, block_on, sensitive};
use crate::exit::{Exit, Failure};
use crate::output::{Output, printable};

/// zstd's level of `longshore dev`, whose bundles travel once, on this machine: twenty times faster than the level that `pack`, `install` and the
/// SDK use. Another level makes another hash of the same project, so only who never compares hashes may use it.
pub const FAST_LEVEL: i32 = 3;

/// Arguments of `longshore install`.
#[derive(clap::Args, Clone, Debug)]
pub struct InstallArgs {
    /// A project's folder (it is packed first), a packed bundle, or the hash of one that was uploaded by hand
    #[arg(value_name = "DIR|BUNDLE|HASH")]
    pub source: String,
    /// With HASH: the extension's registry id, under whose key the bundle is
    #[arg(long, value_name = "ID")]
    pub extension: Option<ExtensionId>,
    /// What it may do, of what its manifest asks for; may be given several times
    #[arg(long, value_name = "CAPABILITY", conflicts_with = "grant_all")]
    pub grant: Vec<String>,
    /// It may do all that its manifest asks for
    #[arg(long)]
    pub grant_all: bool,
    #[command(flatten)]
    /// What else is said of it.
    pub options: OptionArgs,
    /// Copies the bundle from this tenant first
    #[arg(long, value_name = "TENANT")]
    pub move_from: Option<TenantId>,
    /// Installs it disabled: it cannot be called until `longshore enable`
    #[arg(long)]
    pub disabled: bool,
    /// A signature to store with the bundle; unset: the one beside it (`x.sig` for `x.tar.zst`), if there is one
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Does not wait until the workers have fetched and compiled it
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    /// For whom.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// What may be said of an install.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct OptionArgs {
    /// Configuration for the extension; may be given several times, and replaces all of it
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// A secret: KEY=@FILE, KEY=- (standard input) or KEY=env:NAME; may be given several times, and replaces all of them
    #[arg(long, value_name = "KEY=SOURCE")]
    pub secret: Vec<String>,
    /// A limit of its runs: timeout_ms, memory_mb, cpu_ms, host_calls, outbound_requests, log_bytes, log_lines, response_bytes
    #[arg(long, value_name = "NAME=NUMBER")]
    pub limit: Vec<String>,
    /// A host that it may reach (`host` or `*.host`); may be given several times
    #[arg(long, value_name = "HOST")]
    pub egress: Vec<String>,
    /// The pool of workers that runs it
    #[arg(long, value_name = "NAME")]
    pub pool: Option<PoolName>,
    /// Its tenant's turns in the waiting room, relative to 1
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub weight: Option<u32>,
    /// A host name whose page `/` is the extension's; may be given several times
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// What is published of its runs: nothing, debug events, or these and a trace of each run or of each that fails
    #[arg(long, value_name = "off|events|record|record-errors")]
    pub capture: Option<String>,
}

/// What an install is to have, checked.
#[derive(Debug, Default)]
pub struct Wanted {
    /// What it may do; None: as before.
    pub grant: Option<Grant>,
    /// The rest, on an empty request.
    pub options: OptionArgs,
    /// Copies from this tenant.
    pub move_from: Option<TenantId>,
    /// Not to be called yet.
    pub disabled: bool,
    /// Milliseconds to wait for the workers.
    pub wait_ms: u64,
}

impl Wanted {
    fn of(args: &InstallArgs) -> Self {
        let grant = match (args.grant_all, args.grant.is_empty()) {
            (true, _) => Some(Grant::ALL),
            (false, false) => Some(Grant::Only(args.grant.clone())),
            (false, true) => None,
        };
        Self {
            grant,
            options: args.options.clone(),
            move_from: args.move_from.clone(),
            disabled: args.disabled,
            wait_ms: if args.no_wait { 0 } else { DEFAULT_WAIT_MS },
        }
    }

    /// The request for a bundle. Reads secrets: once.
    fn request(&self, hash: ContentHash, extension: Option<ExtensionId>) -> Result<InstallRequest, Failure> {
        let options = &self.options;
        let mut request = InstallRequest::new(hash);
        request.extension = extension;
        request.move_from = self.move_from.clone();
        request.grant = self.grant.clone();
        request.pool = options.pool.clone();
        request.weight = options.weight;
        request.wait_ms = Some(self.wait_ms);
        request.enabled = self.disabled.then_some(false);
        if !options.config.is_empty() {
            request.config = Some(pairs("--config", &options.config)?.into_iter().collect());
        }
        if !options.secret.is_empty() {
            let secrets = pairs("--secret", &options.secret)?.into_iter().map(|(name, source)| {
                let value = sensitive::read(&format!("--secret {name}"), &source)?;
                Ok((name, Plain::new(value)))
            });
            request.secrets = Some(secrets.collect::<Result<_, Failure>>()?);
        }
        if !options.limit.is_empty() {
            request.limits = Some(limits(&options.limit)?);
        }
        if !options.egress.is_empty() {
            request.egress = Some(options.egress.clone());
        }
        if !options.host.is_empty() {
            request.hosts = Some(options.host.clone());
        }
        if let Some(capture) = &options.capture {
            // As the API spells it and as command lines do.
            let level = serde_json::from_value::<CaptureLevel>(capture.replace('-', "_").into());
            request.capture = Some(level.map_err(|_| {
                Failure::usage(format!("--capture {capture}: expected off, events, record or record-errors"))
            })?);
        }
        Ok(request)
    }
}

/// `KEY=VALUE` each, no key twice.
fn pairs(option: &str, given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in given {
        // The value may be a secret that somebody typed after all: it is not repeated.
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("{option} expects KEY=VALUE")));
        };
        if pairs.iter().any(|(other, _)| other == key) {
            return Err(Failure::usage(format!("{option} {key} is given twice")));
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

fn limits(given: &[String]) -> Result<LimitView, Failure> {
    let mut map = serde_json::Map::new();
    for (name, value) in pairs("--limit", given)? {
        let number: u64 = value
            .parse()
            .map_err(|_| Failure::usage(format!("--limit {name}={value}: expected a whole number")))?;
        map.insert(name, number.into());
    }
    serde_json::from_value(map.into()).map_err(|error| Failure::usage(format!("--limit: {error}")))
}

/// What is to be installed.
enum Source {
    Folder(PathBuf),
    Archive(PathBuf),
    Hash(ContentHash),
}

impl Source {
    fn of(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if path.is_file() {
            return Ok(Self::Archive(path.to_owned()));
        }
        text.parse().map(Self::Hash).map_err(|_| {
            Failure::not_found(
                "no_source",
                format!("{text:?} is no folder, no file and no hash of 64 hex digits"),
            )
        })
    }
}

/// A bundle on its way to a fleet.
pub struct Bundle {
    /// The archive.
    pub bytes: Bytes,
    /// The content of its signature file.
    pub signature: Option<Bytes>,
}

/// Runs `longshore install`.
///
/// # Errors
/// A source that is none, a bundle that is not valid, a refusal.
pub fn run(args: &InstallArgs, output: &Output) -> Result<ExitCode, Failure> {
    let source = Source::of(&args.source)?;
    let wanted = Wanted::of(args);
    if args.extension.is_some() && !matches!(source, Source::Hash(_)) {
        return Err(Failure::usage(
            "--extension belongs to HASH: a bundle's own manifest names its extension",
        ));
    }
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant(&args.tenant)?;
        let response = match source {
            Source::Hash(hash) => {
                put_in_force(&client, &tenant, hash, args.extension.clone(), &wanted).await?
            }
            Source::Folder(dir) => {
                let bundle = Bundle::of_folder(&dir, args.signature.as_deref(), output)?;
                upload_and_install(&client, &tenant, bundle, &wanted, output).await?
            }
            Source::Archive(path) => {
                let bundle = Bundle::of_archive(&path, args.signature.as_deref())?;
                upload_and_install(&client, &tenant, bundle, &wanted, output).await?
            }
        };
        let failed = failed_workers(&response);
        output.result(&response, || report(&response, client.place()));
        Ok(if failed { Exit::Failed.into() } else { Exit::Ok.into() })
    })
}

/// Uploads a bundle and puts it in force.
///
/// # Errors
/// Those of the admin API.
pub async fn upload_and_install(
    client: &AdminClient,
    tenant: &TenantId,
    bundle: Bundle,
    wanted: &Wanted,
    output: &Output,
) -> Result<InstallResponse, Failure> {
    let uploaded = upload(client, tenant, bundle).await?;
    for warning in &uploaded.warnings {
        output.note(format!("note: {}", printable(warning)));
    }
    let (hash, extension) = ids(&uploaded)?;
    put_in_force(client, tenant, hash, Some(extension), wanted).await
}

/// Uploads a bundle and its signature.
///
/// # Errors
/// Those of the admin API.
pub async fn upload(
    client: &AdminClient,
    tenant: &TenantId,
    bundle: Bundle,
) -> Result<BundleUploaded, Failure> {
    let hash = longshore_bundle::archive::content_hash(&bundle.bytes);
    // Named, so that what breaks on the way is refused there.
    let route = Route::of_tenant(tenant, ["bundles"]).with("content_hash", hash);
    let mut uploaded: BundleUploaded = client.put(route, "application/octet-stream", bundle.bytes).await?;
    if let Some(signature) = bundle.signature {
        let parts = [
            "extensions",
            uploaded.extension.as_str(),
            "bundles",
            uploaded.content_hash.as_str(),
            "signature",
        ];
        let route = Route::of_tenant(tenant, parts);
        let stored: SignatureStored = client.put(route, "application/json", signature).await?;
        uploaded.signature = stored.signature;
    }
    Ok(uploaded)
}

fn ids(uploaded: &BundleUploaded) -> Result<(ContentHash, ExtensionId), Failure> {
    let hash = uploaded.content_hash.parse();
    let extension = uploaded.extension.parse();
    match (hash, extension) {
        (Ok(hash), Ok(extension)) => Ok((hash, extension)),
        _ => {
            Err(Failure::new(Exit::Failed, "not_understood", "the admin service answered ids that are none"))
        }
    }
}

/// Puts a bundle of the store in force. Where nothing is said of grants, a development session grants all; elsewhere the service keeps what was
/// granted, or refuses and names what is asked for.
///
/// # Errors
/// Those of the admin API.
pub async fn put_in_force(
    client: &AdminClient,
    tenant: &TenantId,
    hash: ContentHash,
    extension: Option<ExtensionId>,
    wanted: &Wanted,
) -> Result<InstallResponse, Failure> {
    let mut request = wanted.request(hash, extension)?;
    if request.grant.is_none() && client.place().dev.is_some() {
        request.grant = Some(Grant::ALL);
    }
    let route = Route::of_tenant(tenant, ["installs"]);
    client.send(Method::POST, route, &request, Duration::from_millis(wanted.wait_ms)).await
}

impl Bundle {
    /// Packs a project's folder.
    ///
    /// # Errors
    /// The project is not valid or not built; the signature cannot be read.
    pub fn of_folder(dir: &Path, signature: Option<&Path>, output: &Output) -> Result<Self, Failure> {
        let bytes =
            crate::author::pack::project(dir, longshore_bundle::archive::PACK_LEVEL, output)?.archive.into();
        // A signature that lies in the folder is of an earlier packing, unless somebody names it.
        let signature = signature.map(read_signature).transpose()?;
        Ok(Self { bytes, signature })
    }

    /// Reads an archive, and the signature beside it.
    ///
    /// # Errors
    /// A file cannot be read or is too large.
    pub fn of_archive(path: &Path, signature: Option<&Path>) -> Result<Self, Failure> {
        let bytes = read_bounded(path, longshore_admin::api::MAX_ARCHIVE_BYTES, "the bundle")?;
        let beside = crate::signing::signature_path(path);
        let signature = match signature {
            Some(path) => Some(read_signature(path)?),
            None if beside.is_file() => Some(read_signature(&beside)?),
            None => None,
        };
        Ok(Self { bytes, signature })
    }
}

/// A signature file is below 4 KiB; the service checks it.
fn read_signature(path: &Path) -> Result<Bytes, Failure> {
    read_bounded(path, 64 << 10, "the signature")
}

fn read_bounded(path: &Path, limit: u64, what: &str) -> Result<Bytes, Failure> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, "unreadable", format!("{what} {} cannot be read: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::invalid(
            "too_large",
            format!("{what} {} is over {limit} bytes", path.display()),
        ));
    }
    Ok(bytes.into())
}

fn failed_workers(response: &InstallResponse) -> bool {
    response.warm.iter().flat_map(|warm| &warm.workers).any(|worker| worker.state == WarmState::Error)
}

/// What happened, for people.
pub(crate) fn report(response: &InstallResponse, place: &Place) -> String {
    let install = &response.install;
    let what = match response.outcome {
        Outcome::Created => "installed",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged:",
        Outcome::RolledBack => "rolled back to",
    };
    let mut lines = vec![
        format!(
            "{what} {} {} for tenant {}",
            printable(&install.name),
            printable(&install.version.version),
            install.tenant
        ),
        format!("  install    {}", install.install_id),
        format!("  extension  {}", install.extension),
        format!("  bundle     {}", install.version.content_hash),
        format!("  granted    {}", list_or(&install.granted, "nothing")),
    ];
    if !install.secret_names.is_empty() {
        lines.push(format!("  secrets    {}", list_or(&install.secret_names, "")));
    }
    if let Some(key) = &install.version.signed_by {
        lines.push(format!("  signed by  {}", printable(key)));
    }
    if let Some(warm) = &response.warm {
        lines.push(format!("  workers    {}", warm_line(warm)));
        for worker in warm.workers.iter().filter(|worker| worker.state == WarmState::Error) {
            let error = printable(worker.error.as_deref().unwrap_or("failed"));
            lines.push(format!(
                "    {}: {error}",
                printable(worker.name.as_deref().unwrap_or(&worker.worker))
            ));
        }
    }
    if install.enabled {
        lines.push(format!("  calls      {}/api/ext/{}/...", place.gateway_url, install.name));
        if install.version.ui_entry.is_some() {
            lines.push(format!("  pages      {}", page_url(place, install)));
        }
    } else {
        lines.push(format!("  disabled: `longshore enable {}` lets it be called", install.name));
    }
    lines.extend(response.warnings.iter().map(|warning| format!("  note: {}", printable(warning))));
    lines.join("\n")
}

/// Where a browser sees an install's pages: the host page of a development session, else the pages themselves.
pub(crate) fn page_url(place: &Place, install: &longshore_admin::api::InstallView) -> String {
    match &place.dev {
        Some(_) => format!("{}/msp/extensions/{}/", place.gateway_url, install.extension),
        None => format!(
            "{}/ext-ui/{}/{}/?tenant={}",
            place.gateway_url, install.extension, install.version.content_hash, install.tenant
        ),
    }
}

fn warm_line(warm: &longshore_admin::api::WarmReport) -> String {
    let ready = warm.workers.iter().filter(|worker| worker.state == WarmState::Ready);
    let slowest = ready.clone().map(|worker| worker.took_ms).max().unwrap_or(0);
    let (ready, all) = (ready.count(), warm.workers.len());
    match all {
        0 => format!("none in the pool {}: calls wait for one", warm.pool),
        _ if ready == all => format!("{ready} of {all} ready ({})", show_millis(slowest)),
        _ => format!("{ready} of {all} ready"),
    }
}

/// `a, b`, or a word for none.
pub(super) fn list_or(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { printable(items.join(", ")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        install: InstallArgs,
    }

    fn request(line: &[&str]) -> Result<InstallRequest, Failure> {
        let args = Line::try_parse_from(["install", "x"].iter().chain(line)).unwrap().install;
        Wanted::of(&args).request(ContentHash::from_bytes([1; 32]), None)
    }

    #[test]
    fn options_become_the_request_and_what_is_not_said_stays_unsaid() {
        let nothing = request(&[]).unwrap();
        let expected =
            InstallRequest { wait_ms: Some(DEFAULT_WAIT_MS), ..InstallRequest::new(nothing.content_hash) };
        assert_eq!(nothing, expected);
        let all = request(&[
            "--grant",
            "cap:http.fetch",
            "--grant",
            "cap:storage.kv",
            "--config",
            "a=b=c",
            "--limit",
            "timeout_ms=500",
            "--egress",
            "*.example.com",
            "--pool",
            "gpu",
            "--host",
            "x.example.com",
            "--capture",
            "off",
            "--no-wait",
            "--weight",
            "3",
            "--secret",
            "k=env:PATH",
        ])
        .unwrap();
        assert_eq!(all.grant, Some(Grant::Only(vec!["cap:http.fetch".into(), "cap:storage.kv".into()])));
        assert_eq!(all.config.unwrap()["a"], "b=c");
        assert_eq!(all.limits.unwrap().timeout_ms, Some(500));
        assert_eq!((all.wait_ms, all.weight), (Some(0), Some(3)));
        assert_eq!(all.secrets.unwrap()["k"].expose(), std::env::var("PATH").unwrap());
        assert_eq!(request(&["--grant-all"]).unwrap().grant, Some(Grant::ALL));
    }

    #[test]
    fn a_plain_secret_is_refused_and_never_repeated() {
        for line in ["key=hunter2", "hunter2"] {
            let failure = request(&["--secret", line]).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }

    #[test]
    fn every_level_of_capture_can_be_asked_for() {
        for (given, level) in [
            ("off", CaptureLevel::Off),
            ("events", CaptureLevel::Events),
            ("record", CaptureLevel::Record),
            ("record-errors", CaptureLevel::RecordErrors),
            ("record_errors", CaptureLevel::RecordErrors),
        ] {
            assert_eq!(request(&["--capture", given]).unwrap().capture, Some(level), "{given}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_before_anything_is_sent() {
        for (line, word) in [
            (["--config", "novalue"], "KEY=VALUE"),
            (["--config", "=v"], "KEY=VALUE"),
            (["--limit", "timeout=5"], "timeout"),
            (["--limit", "timeout_ms=5s"], "whole number"),
            (["--limit", "timeout_ms=-1"], "whole number"),
            (["--capture", "bodies"], "off, events, record or record-errors"),
            (["--capture", ""], "off, events, record or record-errors"),
        ] {
            let failure = request(&line).unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains(word), "{line:?}: {failure}");
        }
        assert!(request(&["--config", "a=1", "--config", "a=2"]).unwrap_err().message.contains("twice"));
        let both = Line::try_parse_from(["install", "x", "--grant", "a", "--grant-all"]);
        assert!(both.is_err());
    }

    #[test]
    fn a_source_is_a_folder_a_file_or_a_hash_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, b"x").unwrap();
        assert!(matches!(Source::of(dir.path().to_str().unwrap()), Ok(Source::Folder(_))));
        assert!(matches!(Source::of(file.to_str().unwrap()), Ok(Source::Archive(_))));
        for hash in ["ab".repeat(32), format!("sha256:{}", "AB".repeat(32))] {
            assert!(matches!(Source::of(&hash), Ok(Source::Hash(_))), "{hash}");
        }
        assert_eq!(Source::of("com.example.none").map(|_| ()).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn a_signature_beside_an_archive_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.zst");
        std::fs::write(&path, b"archive").unwrap();
        assert!(Bundle::of_archive(&path, None).unwrap().signature.is_none());
        std::fs::write(dir.path().join("bundle.sig"), b"another's").unwrap();
        assert!(Bundle::of_archive(&path, None).unwrap().signature.is_none());
        std::fs::write(dir.path().join("a.sig"), b"its own").unwrap();
        assert_eq!(Bundle::of_archive(&path, None).unwrap().signature.unwrap(), "its own");
        let none = dir.path().join("none");
        assert_eq!(Bundle::of_archive(&path, Some(&none)).map(|_| ()).unwrap_err().exit, Exit::NotFound);
    }
}
