//! Settings that every Longshore process has.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use async_nats::ServerAddr;
use url::Url;

use super::{ConfigErrors, Millis, Seconds, Secret};

crate::settings! {
    /// How a process reaches NATS.
    pub struct NatsConfig, group "NATS", validate check_nats {
        /// The servers, separated by commas; others of the same cluster are found through them.
        pub servers: Vec<ServerAddr> = "nats://127.0.0.1:4222", env "NATS_URL";
        /// The user; each role has its own in `deploy/nats.conf`.
        pub user: Option<String>, env "NATS_USER";
        /// The user's password.
        pub password: Option<Secret>, env "NATS_PASSWORD", file "NATS_PASSWORD_FILE";
    }
}

fn check_nats(config: &NatsConfig, errors: &mut ConfigErrors) {
    if config.servers.is_empty() {
        errors.other("NATS_URL names no server: expected at least one, such as nats://127.0.0.1:4222");
    }
    // The client ignores credentials in the address (async-nats 0.51), so that accepting them here would end in a refused login.
    if config.servers.iter().any(|server| server.has_user_pass()) {
        errors.other("NATS_URL contains a user: put it into NATS_USER and NATS_PASSWORD");
    }
    if config.user.is_some() != config.password.is_some() {
        errors.other("NATS_USER and NATS_PASSWORD belong together: set both or none");
    }
}

crate::setting_enum! {
    /// How log lines look.
    pub enum LogFormat {
        /// `human` when stdout is a terminal, `json` otherwise.
        Auto = "auto",
        /// One coloured line for reading.
        Human = "human",
        /// One JSON object for machines.
        Json = "json",
    }
}

crate::settings! {
    /// What a process tells about itself.
    pub struct TelemetryConfig, group "Telemetry", validate check_telemetry {
        /// What is logged: a level, or targets with levels such as `info,longshore_worker=debug`.
        pub filter: String = "info", env "RUST_LOG";
        /// How log lines look: `auto` is `human` in a terminal and `json` elsewhere.
        pub format: LogFormat = "auto", env "LONGSHORE_LOG_FORMAT";
        /// Where traces and logs are sent (OTLP over HTTP, protobuf; `/v1/traces` and `/v1/logs` are appended). Unset: nowhere.
        /// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and the `OTEL_BSP_*` and `OTEL_BLRP_*` variables of the
        /// OpenTelemetry specification apply.
        pub otlp_endpoint: Option<Url>, env "OTEL_EXPORTER_OTLP_ENDPOINT";
        /// The name of the service in traces. Unset: `longshore-` and the role.
        pub service_name: Option<String>, env "OTEL_SERVICE_NAME";
    }
}

fn check_telemetry(config: &TelemetryConfig, errors: &mut ConfigErrors) {
    if !crate::telemetry::filter_is_valid(&config.filter) {
        errors.invalid(
            "RUST_LOG",
            &config.filter,
            "a level, or targets with levels such as info,longshore_worker=debug",
        );
    }
    if config.otlp_endpoint.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
        errors.other("OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL (OTLP over gRPC is not supported)");
    }
}

crate::settings! {
    /// How a process ends.
    pub struct LifecycleConfig, group "Life cycle" {
        /// How long running calls may take to finish after SIGTERM or SIGINT; the process ends as soon as they have. The default is
        /// above the longest call (300 s). What stops the process (Kubernetes, Docker) must wait longer than this.
        pub grace: Seconds = "310", env "LONGSHORE_SHUTDOWN_GRACE";
    }
}

crate::settings! {
    /// Where bundles are kept.
    pub struct StoreSettings, group "Bundle store", validate check_store {
        /// `http(s)://host[:port]/bucket[/prefix]`, `s3://bucket[/prefix]`, an absolute folder or `file:///folder`. A worker needs it.
        pub base: Option<String>, env "BUNDLE_STORE_BASE", aliases ["RUNNER_BUNDLE_STORE_BASE"];
        /// For `s3://`: the server; AWS's own for the region if unset.
        pub endpoint: Option<String>, env "S3_ENDPOINT";
        /// With the secret key: requests are signed. Without both, they are not.
        pub access_key: Option<Secret>, env "S3_ACCESS_KEY", aliases ["MINIO_ACCESS_KEY"];
        /// With the access key.
        pub secret_key: Option<Secret>, env "S3_SECRET_KEY", aliases ["MINIO_SECRET_KEY"];
        /// The region in signatures.
        pub region: String = "us-east-1", env "S3_REGION";
    }
}

fn check_store(config: &StoreSettings, errors: &mut ConfigErrors) {
    if config.access_key.is_some() != config.secret_key.is_some() {
        errors.other("S3_ACCESS_KEY and S3_SECRET_KEY belong together: set both or none");
    }
}

crate::settings! {
    /// Buckets in NATS: installs, tokens, schedules, hints.
    pub struct KvSettings, group "Buckets", validate check_buckets {
        /// Copies of the buckets and of the audit stream in a cluster of NATS servers, 1 to 5; it counts when they are made.
        pub replicas: NonZeroUsize = "1", env "LONGSHORE_KV_REPLICAS";
    }
}

fn check_buckets(config: &KvSettings, errors: &mut ConfigErrors) {
    if config.replicas.get() > 5 {
        errors.invalid("LONGSHORE_KV_REPLICAS", config.replicas.to_string(), "a whole number from 1 to 5");
    }
}

crate::settings! {
    /// Secrets of installs.
    pub struct SecretsConfig, group "Secrets" {
        /// The file with the keys that seal secrets between the gateway and the workers: the first key seals, all open. Without it, the gateway
        /// refuses calls whose secrets would travel in the clear.
        pub key_file: Option<PathBuf>, env "LONGSHORE_SECRETS_KEY_FILE";
    }
}

crate::setting_enum! {
    /// What becomes of a bundle whose signature does not count.
    pub enum SignaturePolicy {
        /// Nothing is looked at.
        Off = "off",
        /// It runs, and the log says once what is wrong.
        Warn = "warn",
        /// It is not installed and does not run.
        Require = "require",
    }
}

crate::settings! {
    /// Signatures of bundles, checked at install and at every load.
    pub struct SignatureSettings, group "Signatures", validate check_signatures {
        /// The file with the public keys whose signatures count (PEM, with key ids and dates). Read again when it changes.
        pub trust_bundle: Option<PathBuf>, env "SIGNING_TRUST_BUNDLE";
        /// `off`, `warn` or `require`. Unset: `require` where `SIGNING_TRUST_BUNDLE` is set, else `off`. Production: `require`.
        pub chosen: Option<SignaturePolicy>, env "LONGSHORE_SIGNATURE_POLICY";
    }
}

fn check_signatures(config: &SignatureSettings, errors: &mut ConfigErrors) {
    if config.policy() == SignaturePolicy::Require && config.trust_bundle.is_none() {
        errors.other(
            "LONGSHORE_SIGNATURE_POLICY=require needs SIGNING_TRUST_BUNDLE: the file with the public keys that are trusted",
        );
    }
}

impl SignatureSettings {
    /// The policy that holds.
    pub fn policy(&self) -> SignaturePolicy {
        self.chosen.unwrap_or(match self.trust_bundle {
            Some(_) => SignaturePolicy::Require,
            None => SignaturePolicy::Off,
        })
    }
}

crate::setting_enum! {
    /// Who keeps and fires schedules.
    pub enum ScheduleKeeper {
        /// The fleet itself: kept in JetStream, fired by one of the gateways.
        Nats = "nats",
        /// The platform behind `STORAGE_API_BASE_URL`.
        Platform = "platform",
        /// Nobody.
        Off = "off",
    }
}

crate::settings! {
    /// Schedules of installs; workers keep them, gateways fire them.
    pub struct ScheduleSettings, group "Schedules" {
        /// Who keeps and fires them: `nats`, `platform` or `off`. Unset: for a worker the platform where its address is known, else NATS; for a
        /// gateway NATS.
        pub keeper: Option<ScheduleKeeper>, env "LONGSHORE_SCHEDULER";
        /// The least time between two runs of one schedule. The existing platform demands 5 minutes.
        pub min_interval: Millis = "300000", env "LONGSHORE_SCHEDULE_MIN_INTERVAL_MS";
    }
}

impl super::FromSetting for longshore_proto::PoolName {
    fn expected() -> String {
        "a name of A-Z a-z 0-9 _ - without dots, and not `shim`".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        raw.parse().ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}
