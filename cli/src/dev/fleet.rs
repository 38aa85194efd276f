//! The workers, the shim and the admin service.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway_shim::config::ShimConfig;
use http::StatusCode;
use longshore_admin::config::AdminConfig;
use longshore_proto::TenantId;
use longshore_secrets::KeyRing;
use longshore_service::config::Settings as _;
use longshore_worker::config::WorkerConfig;

use super::children::{Children, Spec};
use super::environment::Inherited;
use super::http_client::HttpClient;
use super::nats::Nats;
use super::paths::DataDir;
use super::platform::Platform;
use super::programs::Programs;
use super::s3::{ACCESS_KEY, SECRET_KEY};
use super::{ports, ui::Ui};

/// The prefix that makes the stream of everything `ext:debug`, as the existing guide reads it.
pub(crate) const STREAM_PREFIX: &str = "ext:debug";
/// How long running calls may take after Ctrl-C. Shorter than in production: somebody waits at the keyboard.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// A worker prepares its engine, and a shim listens for workers for 3 s before it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The key that seals secrets between shim and workers, in the data folder: kept, because sealed secrets are too.
const KEY_FILE: &str = "secrets.key";

/// The key of the tokens that stand in traces for secrets: one for all workers, so that equal secrets can be seen to be equal.
const REDACT_KEY_FILE: &str = "redact.key";
/// The setting that names it.
const REDACT_KEY: &str = "LONGSHORE_REDACT_KEY_FILE";

/// The token of the admin service, new in each session.
pub(super) use crate::fleet::place::TOKEN_FILE;

/// What all of them are told.
pub(super) struct Place<'a> {
    /// The message server.
    pub(super) nats: &'a Nats,
    /// Debug events.
    pub(super) redis_port: u16,
    /// The bundle store.
    pub(super) store_base: String,
    /// The data folder.
    pub(super) data: &'a DataDir,
    /// The user's variables.
    pub(super) inherited: &'a Inherited,
    /// What stands for the platform.
    pub(super) platform: &'a Platform,
    /// Whose calls come without a token.
    pub(super) tenant: &'a TenantId,
    /// What the host page shows instead of installed pages.
    pub(super) ui_url: Option<&'a str>,
}

/// A process of ours: how it is started and where it says that it is ready.
pub(super) struct Member {
    /// To start it, and to start it again.
    pub(super) spec: Spec,
    ready: String,
}

impl Place<'_> {
    /// Makes the keys that seal secrets and stand for them, unless an earlier session has.
    pub(super) fn make_key(&self) -> anyhow::Result<()> {
        for file in [KEY_FILE, REDACT_KEY_FILE] {
            let path = self.data.path(file);
            let made = KeyRing::load_or_create(&path);
            made.with_context(|| {
                format!("{} (without it, `longshore dev` makes a new one)", path.display())
            })?;
        }
        Ok(())
    }

    fn common(&self, user: &str, password: &str) -> Vec<(&'static str, String)> {
        let mut decided = vec![
            ("NATS_URL", format!("nats://127.0.0.1:{}", self.nats.port)),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", password.to_owned()),
            ("BUNDLE_STORE_BASE", self.store_base.clone()),
            ("S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("S3_SECRET_KEY", SECRET_KEY.to_owned()),
            ("EXT_CACHE_ROOT", self.data.path("cache").display().to_string()),
            ("LONGSHORE_SECRETS_KEY_FILE", self.data.path(KEY_FILE).display().to_string()),
            ("RUNNER_DEBUG_REDIS_URL", format!("redis://127.0.0.1:{}", self.redis_port)),
            ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", STREAM_PREFIX.to_owned()),
            ("LONGSHORE_SHUTDOWN_GRACE", GRACE.as_secs().to_string()),
        ];
        if self.inherited.text(REDACT_KEY).is_none() {
            decided.push((REDACT_KEY, self.data.path(REDACT_KEY_FILE).display().to_string()));
        }
        // Nothing is signed while it is being written.
        if self.inherited.text("LONGSHORE_SIGNATURE_POLICY").is_none() {
            decided.push(("LONGSHORE_SIGNATURE_POLICY", "warn".to_owned()));
        }
        // The first into files, but read by people; the second so that an author hears of a signature and is not stopped by it.
        for (name, default) in [("LONGSHORE_LOG_FORMAT", "human"), ("LONGSHORE_SIGNATURE_POLICY", "warn")] {
            if self.inherited.text(name).is_none() {
                decided.push((name, default.to_owned()));
            }
        }
        decided
    }

    /// Worker number `number`.
    pub(super) async fn worker(&self, programs: &Programs, number: u8) -> anyhow::Result<Member> {
        let admin = format!("127.0.0.1:{}", ports::any().await?);
        let mut decided = self.common("worker", &self.nats.worker_password);
        decided.push(("WORKER_HTTP_ADDR", admin.clone()));
        decided.extend_from_slice(self.platform.settings());
        let defaults = [
            ("LONGSHORE_DEBUG_FIREHOSE", "true"),
            ("LONGSHORE_GUEST_LOG", "stdout"),
            // So that a JavaScript component is live in a second or two after a save.
            ("WORKER_COMPILER", if has_winch() { "winch" } else { "cranelift" }),
        ];
        for (name, default) in defaults {
            if self.inherited.text(name).is_none() {
                decided.push((name, default.to_owned()));
            }
        }
        let env = self.inherited.with_settings(&WorkerConfig::groups(), &decided);
        let spec = Spec {
            name: format!("worker-{number}"),
            program: programs.worker.clone(),
            args: Vec::new(),
            env,
            on_screen: true,
        };
        Ok(Member { spec, ready: format!("http://{admin}/readyz") })
    }

    /// The shim.
    pub(super) fn shim(&self, programs: &Programs, port: u16) -> Member {
        let mut decided = self.common("shim", &self.nats.shim_password);
        decided.push(("LONGSHORE_HTTP_ADDR", format!("127.0.0.1:{port}")));
        decided.push(("LONGSHORE_DEV_TENANT", self.tenant.to_string()));
        if let Some(url) = self.ui_url {
            decided.push(("LONGSHORE_DEV_UI_URL", url.to_owned()));
        }
        // No load balancer has to notice that it leaves.
        decided.push(("LONGSHORE_HTTP_DRAIN_DELAY", "0".to_owned()));
        if self.inherited.text("RUNNER_STATIC_STRICT_VALIDATION").is_none()
            && self.inherited.text("EXT_STATIC_STRICT_VALIDATION").is_none()
        {
            decided.push(("RUNNER_STATIC_STRICT_VALIDATION", "false".to_owned()));
        }
        let env = self.inherited.with_settings(&ShimConfig::groups(), &decided);
        let program: PathBuf = programs.shim.clone();
        let spec = Spec { name: "shim".into(), program, args: Vec::new(), env, on_screen: true };
        Member { spec, ready: format!("http://127.0.0.1:{port}/readyz") }
    }

    /// The admin service, with a new token in the data folder.
    pub(super) fn admin(&self, programs: &Programs, port: u16) -> anyhow::Result<Member> {
        let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let file = self.data.write(TOKEN_FILE, token.as_bytes())?;
        let mut decided = self.common("control", &self.nats.control_password);
        decided.push(("LONGSHORE_ADMIN_ADDR", format!("127.0.0.1:{port}")));
        decided.push(("LONGSHORE_ADMIN_TOKEN_FILE", file.display().to_string()));
        let mut env = self.inherited.with_settings(&AdminConfig::groups(), &decided);
        // The token of another fleet, which the user's commands are for.
        env.remove("LONGSHORE_ADMIN_TOKEN");
        env.remove("LONGSHORE_ADMIN_TOKEN_PREVIOUS");
        let spec = Spec {
            name: "admin".into(),
            program: programs.admin.clone(),
            args: Vec::new(),
            env,
            on_screen: true,
        };
        Ok(Member { spec, ready: format!("http://127.0.0.1:{port}/readyz") })
    }

    /// Tells which of the user's variables do not count here.
    pub(super) fn say_overruled(&self, ui: &Ui) {
        let decided = self.common("worker", "");
        let mut names = self.inherited.overruled(&WorkerConfig::groups(), &decided);
        names.retain(|name| name != "NATS_PASSWORD");
        if !names.is_empty() {
            ui.item("note", format!("longshore dev sets {} itself; yours is not used", names.join(", ")));
        }
    }
}

/// Whether Winch compiles for this machine.
fn has_winch() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Waits until all are ready.
pub(super) async fn ready(
    children: &mut Children,
    members: &[Member],
    http: &HttpClient,
) -> anyhow::Result<()> {
    let started = Instant::now();
    for member in members {
        let mut last = String::new();
        let asking = async {
            loop {
                match http.get(&member.ready).await {
                    Ok((StatusCode::OK, _)) => return Ok(()),
                    Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body)),
                    Err(error) => last = format!("{error:#}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let limit = READY_LIMIT.saturating_sub(started.elapsed());
        if let Err(error) = children.while_running(limit, asking).await {
            let name = &member.spec.name;
            let error = error.about(&format!("starting {name}"));
            return Err(if last.is_empty() {
                error
            } else {
                error.context(format!("{name} last said: {last}"))
            });
        }
    }
    Ok(())
}
