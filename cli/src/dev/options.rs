//! What `longshore dev` can be told.

use std::path::PathBuf;

use clap::ValueEnum;

/// Arguments of `longshore dev`.
#[derive(clap::Args, Clone, Debug)]
pub struct DevArgs {
    /// Call the examples, check their events, stop everything; exit code 0 or 1
    #[arg(long)]
    pub once: bool,
    /// Port of the shim on 127.0.0.1
    #[arg(long, env = "RUNNER_DOCKER_PORT", default_value_t = 8085, value_name = "PORT")]
    pub port: u16,
    /// Build, pack and install this project on each save, and show its events; may be given several times; where a `longshore dev` runs in the data
    /// folder already, it is used
    #[arg(long, value_name = "DIR", conflicts_with = "once")]
    pub watch: Vec<PathBuf>,
    /// Show this instead of the installed pages in the host page's frame: a development server such as Vite's
    #[arg(long, env = "LONGSHORE_DEV_UI_URL", value_name = "URL")]
    pub ui_url: Option<String>,
    /// Port of the bundle store (S3) on 127.0.0.1
    #[arg(long, env = "LONGSHORE_DEV_S3_PORT", default_value_t = 4569, value_name = "PORT")]
    pub s3_port: u16,
    /// Port of the admin service on 127.0.0.1; in use: the next free one
    #[arg(long, env = "LONGSHORE_DEV_ADMIN_PORT", default_value_t = 8090, value_name = "PORT")]
    pub admin_port: u16,
    /// Port of NATS on 127.0.0.1; in use: the next free one
    #[arg(long, env = "LONGSHORE_DEV_NATS_PORT", default_value_t = 4222, value_name = "PORT")]
    pub nats_port: u16,
    /// Port of Redis on 127.0.0.1; a Redis that answers there is used, anything else: the next free port
    #[arg(long, env = "LONGSHORE_DEV_REDIS_PORT", default_value_t = 6379, value_name = "PORT")]
    pub redis_port: u16,
    /// `auto`: take any free port for everything and an own Redis, whatever the other options say
    #[arg(long, env = "LONGSHORE_DEV_PORTS", value_enum, default_value_t = Ports::Fixed, value_name = "fixed|auto")]
    pub ports: Ports,
    /// How many worker processes
    #[arg(long, env = "LONGSHORE_DEV_WORKERS", default_value_t = 2, value_name = "NUMBER",
          value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: u8,
    /// The tenant to which the examples are given; `DEV_TENANT_ID` means the same
    #[arg(long, env = "LONGSHORE_TENANT", value_name = "ID")]
    pub tenant: Option<String>,
    /// The folder of all data
    #[arg(long, env = "LONGSHORE_DEV_DATA", default_value = ".longshore", value_name = "DIR")]
    pub data: PathBuf,
    /// The folder of the examples that are installed: `hello-rust`, `clients-rust`, `storage-rust`, `hello-ui`, `hello-js`
    #[arg(long, env = "LONGSHORE_DEV_EXAMPLES", default_value = "examples", value_name = "DIR")]
    pub examples: PathBuf,
    /// What the platform's stand-in holds (clients, services, REST collections), as JSON; unset: sample data
    #[arg(long, env = "LONGSHORE_DEV_SEED", value_name = "FILE")]
    pub seed: Option<PathBuf>,
    /// The nats-server to run; unset: the one in .venv/bin or on the PATH
    #[arg(long, env = "NATS_SERVER_BIN", value_name = "FILE")]
    pub nats_server_bin: Option<PathBuf>,
    /// The redis-server to run; unset: the one on the PATH
    #[arg(long, env = "REDIS_SERVER_BIN", value_name = "FILE")]
    pub redis_server_bin: Option<PathBuf>,
}

/// How ports are chosen.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The ports that the options name.
    Fixed,
    /// Any that are free.
    Auto,
}

/// The tenant when nobody names one.
pub const DEFAULT_TENANT: &str = "local-dev";

impl DevArgs {
    /// The tenant, from the option, `LONGSHORE_TENANT` or `DEV_TENANT_ID` (`alias`).
    ///
    /// # Errors
    /// The two variables differ, or the id is none.
    pub fn tenant(&self, alias: Option<&str>) -> anyhow::Result<longshore_proto::TenantId> {
        let filled = |text: &&str| !text.is_empty();
        let (own, alias) = (self.tenant.as_deref().filter(filled), alias.filter(filled));
        if let (Some(own), Some(alias)) = (own, alias)
            && own != alias
        {
            anyhow::bail!(
                "LONGSHORE_TENANT (or --tenant) is {own} and DEV_TENANT_ID is {alias}: unset one of them"
            );
        }
        let tenant = own.or(alias).unwrap_or(DEFAULT_TENANT);
        tenant.parse().map_err(|error| anyhow::anyhow!("the tenant {tenant:?} is none: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevArgs,
    }

    fn args(line: &[&str]) -> DevArgs {
        Line::parse_from(std::iter::once(&"dev").chain(line)).dev
    }

    #[test]
    fn two_variables_for_the_tenant_must_agree() {
        assert_eq!(args(&[]).tenant(None).unwrap().as_str(), DEFAULT_TENANT);
        assert_eq!(args(&[]).tenant(Some("t-1")).unwrap().as_str(), "t-1");
        assert_eq!(args(&["--tenant", "t-1"]).tenant(Some("t-1")).unwrap().as_str(), "t-1");
        let error = args(&["--tenant", "t-1"]).tenant(Some("t-2")).unwrap_err().to_string();
        assert!(error.contains("DEV_TENANT_ID is t-2"), "{error}");
    }

    #[test]
    fn a_tenant_that_no_call_could_name_is_refused_at_the_start() {
        for bad in ["a b", "../x", "ä", "a/b"] {
            assert!(args(&["--tenant", bad]).tenant(None).is_err(), "{bad}");
        }
    }
}
