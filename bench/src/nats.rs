//! The nats-server of a measurement, and connections to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use longshore_proto::Token;
use longshore_service::config::NatsConfig;
use longshore_service::nats::{self, Options, Watcher};

use crate::process::{Process, nats_server};

/// The same rights and pings as everywhere.
const NATS_CONF: &str = include_str!("../../deploy/nats.conf");
/// The users of that file.
const USERS: [&str; 5] = ["shim", "worker", "caller", "control", "admin"];
/// A connection on this machine takes milliseconds.
const CONNECTS: Duration = Duration::from_secs(10);

/// Where it is and how to get in.
#[derive(Clone)]
pub struct Server {
    /// The address.
    pub url: String,
    passwords: BTreeMap<&'static str, String>,
}

impl Server {
    /// Starts one on a free port, which keeps everything in `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<(Process, Self)> {
        let config = folder.join("nats.conf");
        std::fs::write(&config, NATS_CONF)?;
        // A letter first: the server reads a password as it reads its configuration, where `123` is a number.
        let passwords: BTreeMap<_, _> = USERS.map(|user| (user, format!("p{}", Token::random()))).into();
        let mut command = Command::new(nats_server()?);
        command.env_clear().arg("-c").arg(&config).args(["-a", "127.0.0.1", "-p", "-1"]);
        command.arg("--ports_file_dir").arg(folder);
        command.env("NATS_STORE_DIR", format!("\"{}\"", folder.join("jetstream").display()));
        for (user, password) in &passwords {
            command.env(format!("NATS_{}_PASSWORD", user.to_uppercase()), password);
        }
        let mut process = Process::start("nats-server", folder, &mut command)?;
        let ports = folder.join(format!("nats-server_{}.ports", process.id()));
        // Written when it listens.
        let url = process.until("the port", || client_url(&std::fs::read(&ports).ok()?)).await?;
        Ok((process, Self { url, passwords }))
    }

    /// A user's password; empty for a user that there is not.
    pub fn password(&self, user: &str) -> &str {
        self.passwords.get(user).map_or("", String::as_str)
    }

    /// A connection for JetStream, with the inboxes that the user's process has.
    pub async fn connect(&self, user: &str) -> anyhow::Result<(Client, Watcher)> {
        let environment =
            [("NATS_URL", self.url.as_str()), ("NATS_USER", user), ("NATS_PASSWORD", self.password(user))];
        let environment: BTreeMap<_, _> =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let config = NatsConfig::load(&environment, ["longshore-bench".to_owned()])?;
        // The admin service, which is the user `control`, has its inboxes below `_R.admin`.
        let place = if user == "control" { "admin" } else { user };
        let options = Options { inbox_prefix: Some(format!("_R.{place}.js")), ..Options::default() };
        let (client, mut link) = nats::connect("bench", &config, options).await?;
        let connected = tokio::time::timeout(CONNECTS, link.connected(1)).await;
        connected.with_context(|| format!("no connection as {user}"))?;
        Ok((client, link))
    }
}

fn client_url(ports: &[u8]) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_slice(ports).ok()?;
    Some(ports.pointer("/nats/0")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_address_is_read_from_its_ports_file_once_it_is_whole() {
        assert_eq!(client_url(br#"{"nats":["nats://127.0.0.1:4711"]}"#).unwrap(), "nats://127.0.0.1:4711");
        assert_eq!(client_url(br#"{"nats":["nats://127"#), None);
        assert_eq!(client_url(br#"{"nats":[]}"#), None);
    }

    #[test]
    fn every_user_of_the_configuration_has_a_password() {
        for user in USERS {
            assert!(
                NATS_CONF.contains(&format!("password: $NATS_{}_PASSWORD", user.to_uppercase())),
                "{user}"
            );
        }
        assert_eq!(NATS_CONF.matches("password: $").count(), USERS.len());
    }
}
