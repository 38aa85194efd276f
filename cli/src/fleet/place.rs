//! Which fleet a command speaks to, with which token, for which tenant.
//!
//! A fleet is named by variables or options. Where nothing is named, it is the `longshore dev` whose data folder is found: the one of
//! `LONGSHORE_DEV_DATA`, else `.longshore` in this folder or one above it. That session leaves its addresses in `fleet.json` and a token, readable by
//! its owner alone, in `admin.token`; this token is only ever sent to this machine.

use std::path::{Path, PathBuf};

use longshore_proto::TenantId;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::{Exit, Failure};

/// Where the admin service listens unless it is told otherwise.
pub const DEFAULT_ADMIN_URL: &str = "http://127.0.0.1:8090";
/// Where the gateway of `longshore dev` and of compose answers.
pub const DEFAULT_GATEWAY_URL: &str = "http://127.0.0.1:8085";
/// The data folder of `longshore dev`.
pub const DATA_DIR: &str = ".longshore";
/// In the data folder: the token of the session's admin service.
pub const TOKEN_FILE: &str = "admin.token";
/// In the data folder: what runs there, as [`DevFleet`].
pub const FLEET_FILE: &str = "fleet.json";
/// Such files are a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Which fleet.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FleetArgs {
    /// The admin service; unset: that of the running `longshore dev`, else http://127.0.0.1:8090
    #[arg(long, env = "LONGSHORE_ADMIN_URL", value_name = "URL", help_heading = "Fleet")]
    pub admin_url: Option<String>,
    /// The file with its token, where LONGSHORE_ADMIN_TOKEN is not set; unset: that of the running `longshore dev`
    #[arg(long, env = "LONGSHORE_ADMIN_TOKEN_FILE", value_name = "FILE", help_heading = "Fleet")]
    pub admin_token_file: Option<PathBuf>,
}

/// Which tenant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TenantArgs {
    /// The tenant; DEV_TENANT_ID means the same; unset: that of the running `longshore dev`
    #[arg(long, env = "LONGSHORE_TENANT", value_name = "ID", help_heading = "Fleet")]
    pub tenant: Option<String>,
}

/// What a `longshore dev` tells other commands, in `fleet.json`. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DevFleet {
    /// The process.
    pub process: u32,
    /// The admin service.
    pub admin_url: String,
    /// The gateway.
    pub gateway_url: String,
    /// The tenant of the session.
    pub tenant: String,
    /// The bundle store's base.
    pub store: String,
    /// Debug events.
    pub redis_url: String,
    /// The message server.
    pub nats_url: String,
}

/// The folder of a `longshore dev`.
#[derive(Debug, Clone)]
pub struct DevFolder {
    /// Where.
    pub path: PathBuf,
    /// What its session says; None: it has left nothing, or nothing that can be read.
    pub fleet: Option<DevFleet>,
}

/// A fleet that was found.
#[derive(Debug, Clone)]
pub struct Place {
    /// The admin service.
    pub admin_url: Url,
    /// The gateway.
    pub gateway_url: String,
    /// The token and where it is from; None: there is none.
    pub token: Option<Token>,
    /// The session of `longshore dev`, if it is one.
    pub dev: Option<DevFleet>,
}

/// A token. Not printed.
#[derive(Clone)]
pub struct Token {
    /// As it is sent.
    pub text: String,
    /// A variable or a file.
    pub origin: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The variables that are no options: a token on a command line is in every list of processes.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `LONGSHORE_ADMIN_TOKEN`.
    pub admin_token: Option<String>,
    /// `LONGSHORE_GATEWAY_URL`.
    pub gateway_url: Option<String>,
    /// `DEV_TENANT_ID`.
    pub dev_tenant: Option<String>,
    /// `LONGSHORE_DEV_DATA`.
    pub dev_data: Option<PathBuf>,
}

impl Variables {
    /// Those of this process; empty ones are not set.
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            admin_token: text("LONGSHORE_ADMIN_TOKEN"),
            gateway_url: text("LONGSHORE_GATEWAY_URL"),
            dev_tenant: text("DEV_TENANT_ID"),
            dev_data: text("LONGSHORE_DEV_DATA").map(PathBuf::from),
        }
    }
}

impl DevFolder {
    /// The folder of `longshore dev` that counts in `current`: the named one, else the nearest `.longshore`.
    pub fn find(named: Option<&Path>, current: &Path) -> Option<Self> {
        let path = match named {
            Some(named) => Some(named.to_owned()),
            None => {
                // Of folders that were not named only one's own: in a shared one, such as /tmp, anybody could leave a session.
                let is_session = |dir: &PathBuf| dir.join(TOKEN_FILE).is_file() && is_ours(dir);
                current.ancestors().map(|dir| dir.join(DATA_DIR)).find(is_session)
            }
        }?;
        let fleet = read_small(&path.join(FLEET_FILE)).ok().and_then(|text| serde_json::from_str(&text).ok());
        Some(Self { path, fleet: fleet.filter(DevFleet::is_here) })
    }

    /// The session's token, if there is one.
    fn token(&self) -> Result<Option<Token>, Failure> {
        let path = self.path.join(TOKEN_FILE);
        let text = match read_small(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let message = format!("the token file {} cannot be read: {error}", path.display());
                return Err(Failure::new(Exit::NotPermitted, "no_token", message)
                    .hint("only who started `longshore dev` can read it: run the command as that user"));
            }
            Err(_) => return Ok(None),
        };
        Ok((!text.is_empty()).then(|| Token { text, origin: path.display().to_string() }))
    }
}

fn is_ours(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(folder).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

impl DevFleet {
    /// Whether it is a fleet of this machine, as all of `longshore dev` are. A folder that came with somebody's project must not have
    /// tokens of the environment sent elsewhere.
    fn is_here(&self) -> bool {
        let here = |url: &str| url.is_empty() || Url::parse(url).is_ok_and(|url| is_loopback(&url));
        here(&self.admin_url) && here(&self.gateway_url)
    }
}

impl Place {
    /// The fleet that options, variables and this folder name.
    ///
    /// # Errors
    /// An address that is none, a token file that cannot be read.
    pub fn find(args: &FleetArgs) -> Result<Self, Failure> {
        let current = std::env::current_dir().unwrap_or_default();
        Self::find_in(args, &Variables::of_process(), &current)
    }

    /// The same from given variables and folder.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_in(args: &FleetArgs, variables: &Variables, current: &Path) -> Result<Self, Failure> {
        let folder = DevFolder::find(variables.dev_data.as_deref(), current);
        let recorded = folder.as_ref().and_then(|folder| folder.fleet.clone());
        let named = args.admin_url.as_deref().filter(|url| !url.is_empty());
        let url = named
            .or_else(|| recorded.as_ref().map(|fleet| fleet.admin_url.as_str()).filter(|url| !url.is_empty()))
            .unwrap_or(DEFAULT_ADMIN_URL);
        let admin_url = parse_url("LONGSHORE_ADMIN_URL (or --admin-url)", url)?;
        let (token, of_dev) = token(args, variables, folder.as_ref(), &admin_url)?;
        let dev = if of_dev { Some(recorded.unwrap_or_default()) } else { None };
        let gateway_url = variables
            .gateway_url
            .clone()
            .or_else(|| dev.as_ref().map(|fleet| fleet.gateway_url.clone()).filter(|url| !url.is_empty()))
            .unwrap_or_else(|| DEFAULT_GATEWAY_URL.to_owned());
        parse_url("LONGSHORE_GATEWAY_URL", &gateway_url)?;
        Ok(Self { admin_url, gateway_url: gateway_url.trim_end_matches('/').to_owned(), token, dev })
    }

    /// The tenant of the command.
    ///
    /// # Errors
    /// None is named, two are, or it is no id.
    pub fn tenant(&self, args: &TenantArgs) -> Result<TenantId, Failure> {
        self.tenant_or(args, &Variables::of_process())?.ok_or_else(|| {
            Failure::usage("which tenant?").hint("name it by --tenant ID or LONGSHORE_TENANT=ID")
        })
    }

    /// The same, or none.
    ///
    /// # Errors
    /// Two are named, or it is no id.
    pub fn tenant_or(&self, args: &TenantArgs, variables: &Variables) -> Result<Option<TenantId>, Failure> {
        let own = args.tenant.as_deref().filter(|tenant| !tenant.is_empty());
        let alias = variables.dev_tenant.as_deref();
        if let (Some(own), Some(alias)) = (own, alias)
            && own != alias
        {
            return Err(Failure::usage(format!(
                "LONGSHORE_TENANT (or --tenant) is {own} and DEV_TENANT_ID is {alias}: unset one of them"
            )));
        }
        let of_dev = self.dev.as_ref().map(|fleet| fleet.tenant.as_str()).filter(|tenant| !tenant.is_empty());
        let Some(tenant) = own.or(alias).or(of_dev) else { return Ok(None) };
        let parsed =
            tenant.parse().map_err(|error| Failure::usage(format!("{tenant:?} is no tenant: {error}")))?;
        Ok(Some(parsed))
    }
}

/// The token, and whether it is that of a `longshore dev`.
fn token(
    args: &FleetArgs,
    variables: &Variables,
    folder: Option<&DevFolder>,
    url: &Url,
) -> Result<(Option<Token>, bool), Failure> {
    if let Some(text) = &variables.admin_token {
        let token = Token { text: text.trim().to_owned(), origin: "LONGSHORE_ADMIN_TOKEN".to_owned() };
        return Ok((Some(token), false));
    }
    if let Some(path) = args.admin_token_file.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        let text = read_small(path).map_err(|error| {
            Failure::new(
                Exit::NotPermitted,
                "no_token",
                format!("the token file {} cannot be read: {error}", path.display()),
            )
        })?;
        let token = Token { text: text.trim().to_owned(), origin: path.display().to_string() };
        // The file that `dev` writes, named: still that session.
        let of_dev = folder.is_some_and(|folder| same_file(&folder.path.join(TOKEN_FILE), path));
        return Ok((Some(token), of_dev && is_loopback(url)));
    }
    // What a session on this machine trusts is nobody else's business.
    if !is_loopback(url) {
        return Ok((None, false));
    }
    let token = folder.map(DevFolder::token).transpose()?.flatten();
    let of_dev = token.is_some();
    Ok((token, of_dev))
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

fn parse_url(what: &str, text: &str) -> Result<Url, Failure> {
    let url =
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let url = url.ok_or_else(|| Failure::usage(format!("{what} is {text:?}: expected http://HOST:PORT")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage(format!(
            "{what} holds a user: the token is named by a file or a variable"
        )));
    }
    Ok(url)
}

fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(tenant: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join(DATA_DIR);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(TOKEN_FILE), "dev-token\n").unwrap();
        let fleet = DevFleet {
            admin_url: "http://127.0.0.1:1234".into(),
            gateway_url: "http://127.0.0.1:2345".into(),
            tenant: tenant.into(),
            ..DevFleet::default()
        };
        std::fs::write(data.join(FLEET_FILE), serde_json::to_vec(&fleet).unwrap()).unwrap();
        dir
    }

    fn named(url: &str) -> FleetArgs {
        FleetArgs { admin_url: Some(url.into()), ..FleetArgs::default() }
    }

    #[test]
    fn the_session_of_a_folder_above_is_found_with_its_addresses_token_and_tenant() {
        let dir = session("t-dev");
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let place = Place::find_in(&FleetArgs::default(), &Variables::default(), &below).unwrap();
        assert_eq!(place.admin_url.as_str(), "http://127.0.0.1:1234/");
        assert_eq!(place.gateway_url, "http://127.0.0.1:2345");
        assert_eq!(place.token.as_ref().unwrap().text, "dev-token");
        let tenant = place.tenant_or(&TenantArgs::default(), &Variables::default()).unwrap();
        assert_eq!(tenant.unwrap().as_str(), "t-dev");
        assert!(!format!("{place:?}").contains("dev-token"));
    }

    #[test]
    fn the_token_of_a_session_is_sent_to_this_machine_alone() {
        let dir = session("t");
        let place =
            Place::find_in(&named("https://fleet.example.com"), &Variables::default(), dir.path()).unwrap();
        assert!(place.token.is_none() && place.dev.is_none());
        for here in ["http://localhost:8090", "http://[::1]:8090", "http://127.0.0.2:8090"] {
            assert!(
                Place::find_in(&named(here), &Variables::default(), dir.path()).unwrap().dev.is_some(),
                "{here}"
            );
        }
    }

    #[test]
    fn a_folder_that_came_with_a_project_sends_no_token_of_the_environment_elsewhere() {
        for (admin_url, gateway_url) in [
            ("https://evil.example", "http://127.0.0.1:2345"),
            ("http://127.0.0.1:1234", "https://evil.example"),
            ("http://127.0.0.1.evil.example", "http://127.0.0.1:2345"),
            ("http://127.0.0.1:1234@evil.example", "http://127.0.0.1:2345"),
        ] {
            let dir = session("t");
            let fleet = DevFleet {
                admin_url: admin_url.into(),
                gateway_url: gateway_url.into(),
                ..DevFleet::default()
            };
            let text = serde_json::to_vec(&fleet).unwrap();
            std::fs::write(dir.path().join(DATA_DIR).join(FLEET_FILE), text).unwrap();
            for admin_token in [None, Some("operator's".to_owned())] {
                let variables = Variables { admin_token, ..Variables::default() };
                let place = Place::find_in(&FleetArgs::default(), &variables, dir.path()).unwrap();
                assert_eq!(place.admin_url.as_str(), "http://127.0.0.1:8090/", "{admin_url}");
                assert_eq!(place.gateway_url, DEFAULT_GATEWAY_URL, "{gateway_url}");
            }
        }
    }

    #[test]
    fn a_token_in_the_environment_wins_and_makes_it_no_development_session() {
        let dir = session("t");
        let variables = Variables { admin_token: Some("other".into()), ..Variables::default() };
        let place = Place::find_in(&FleetArgs::default(), &variables, dir.path()).unwrap();
        assert_eq!(place.token.unwrap().text, "other");
        assert!(place.dev.is_none());
    }

    #[test]
    fn without_anything_it_is_the_default_address_without_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let variables = Variables { dev_data: Some(dir.path().to_owned()), ..Variables::default() };
        let place = Place::find_in(&FleetArgs::default(), &variables, dir.path()).unwrap();
        assert_eq!(place.admin_url.as_str(), "http://127.0.0.1:8090/");
        assert!(place.token.is_none());
        assert!(place.tenant_or(&TenantArgs::default(), &variables).unwrap().is_none());
    }

    #[test]
    fn addresses_and_tenants_that_are_none_are_refused_with_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let none = Variables { dev_data: Some(dir.path().to_owned()), ..Variables::default() };
        for bad in ["fleet", "ftp://x", "http://", "http://u:p@x"] {
            let failure = Place::find_in(&named(bad), &none, dir.path()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
            assert!(failure.message.contains("LONGSHORE_ADMIN_URL"), "{failure}");
        }
        let place = Place::find_in(&FleetArgs::default(), &none, dir.path()).unwrap();
        let tenant = |own: &str, alias: Option<&str>| {
            let variables = Variables { dev_tenant: alias.map(str::to_owned), ..none.clone() };
            place.tenant_or(&TenantArgs { tenant: Some(own.to_owned()) }, &variables)
        };
        assert!(tenant("a/b", None).is_err());
        assert!(tenant("t-1", Some("t-2")).unwrap_err().message.contains("DEV_TENANT_ID is t-2"));
        assert_eq!(tenant("t-1", Some("t-1")).unwrap().unwrap().as_str(), "t-1");
        assert_eq!(tenant("", Some("t-2")).unwrap().unwrap().as_str(), "t-2");
    }

    #[test]
    fn a_token_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let args = FleetArgs { admin_token_file: Some(dir.path().join("none")), ..FleetArgs::default() };
        let failure = Place::find_in(&args, &Variables::default(), dir.path()).unwrap_err();
        assert_eq!((failure.exit, failure.code), (Exit::NotPermitted, "no_token"));
    }
}
