//! WASI 0.2 (and 0.3 where it is switched on): clocks, random, poll and stdio are real; there are no arguments and no
//! preopened folders, and sockets and name lookup are refused. The environment is the install's configuration and a
//! few names of ours, never the host's; `wasi:config/store@0.2.0-rc.1` has the same configuration.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use longshore_proto::{ExecutionId, Run};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use super::scope::RunScope;
use super::stdio::GuestOutput;

/// Resources (pollables, streams, header fields, bodies) of one run alive at once; a guest that leaks them traps. Most
/// take some hundred bytes of the host's memory, but header fields take up to [`FIELDS_BYTES`] and an outgoing body that
/// nobody reads two writes of [`BODY_WRITE_BYTES`], so one run holds 128 MiB at worst. JavaScript components use about ten.
const RESOURCES: usize = 1_024;
/// Bytes of one `fields` resource, as wasmtime counts them: with the map's own overhead. wasmtime's own default.
pub(super) const FIELDS_BYTES: usize = 128 << 10;
/// Bytes that one write to an outgoing body takes; wasmtime's default of 1 MiB would let a run hold 600 MiB in bodies
/// that it never sends.
pub(super) const BODY_WRITE_BYTES: usize = 64 << 10;
/// Random bytes in one call: more traps.
pub(super) const RANDOM_BYTES: u64 = 1 << 20;
/// Names of ours in the environment. An install's configuration cannot set them, not even those that a call lacks:
/// a guest may believe them.
const OURS: [&str; 7] = [
    "LONGSHORE_TENANT",
    "LONGSHORE_EXTENSION",
    "LONGSHORE_INSTALL",
    "LONGSHORE_REQUEST_ID",
    "LONGSHORE_EXECUTION_ID",
    "LONGSHORE_ATTEMPT",
    "LONGSHORE_TRIGGER",
];

/// An empty table with its limit.
pub(super) fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES);
    table
}

/// What one run may do.
pub(super) fn context(scope: &RunScope) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(GuestOutput::stdout(scope))
        .stderr(GuestOutput::stderr(scope))
        .max_random_size(RANDOM_BYTES)
        // The defaults of wasmtime 48, but not something to depend on.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }))
        .allow_blocking_current_thread(false);
    for (name, value) in environment(&scope.run, scope.execution, scope.attempt) {
        builder.env(name, value);
    }
    builder.build()
}

/// The environment of one run. Its size is bounded with the call's headers (`headers_too_large`).
fn environment(run: &Run, execution: ExecutionId, attempt: u32) -> Vec<(String, String)> {
    let context = &run.context;
    let mut variables: Vec<_> = context
        .config
        .iter()
        .filter(|(name, _)| is_taken(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let trigger = context.trigger.as_ref().map_or("request", |trigger| trigger.kind.as_str());
    let values = [
        Some(context.tenant.to_string()),
        Some(context.extension.to_string()),
        context.install_id.clone(),
        context.request_id.clone(),
        Some(execution.to_string()),
        Some(attempt.to_string()),
        Some(trigger.to_owned()),
    ];
    variables
        .extend(OURS.into_iter().zip(values).filter_map(|(name, value)| Some((name.to_owned(), value?))));
    variables
}

/// Whether an entry of the configuration becomes a variable.
fn is_taken(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !OURS.contains(&name)
}

/// Entries of the configuration that no environment can hold or that would pass for ours. `wasi:config/store` has
/// them all the same.
pub fn left_out(config: &BTreeMap<String, String>) -> usize {
    config.keys().filter(|name| !is_taken(name)).count()
}

/// What `wasi:config/store` reads: made when it is first called, since most guests never do.
#[derive(Default)]
pub(super) struct ConfigStore(OnceCell<WasiConfigVariables>);

impl ConfigStore {
    /// The install's configuration, every name of it.
    pub(super) fn view(&self, run: &Run) -> WasiConfig<'_> {
        let config = &run.context.config;
        WasiConfig::from(
            self.0.get_or_init(|| config.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()),
        )
    }
}

#[cfg(test)]
mod tests {
    use longshore_proto::call::{RunContext, RunHttp, Trigger, TriggerKind};

    use super::*;

    fn run(config: &[(&str, &str)]) -> Run {
        Run {
            context: RunContext {
                request_id: None,
                tenant: "t".parse().unwrap(),
                extension: "e".parse().unwrap(),
                install_id: None,
                version_id: None,
                content_hash: longshore_proto::ContentHash::from_bytes([0; 32]),
                config: config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: "/".into(),
                headers: Vec::new(),
                scheme: None,
                authority: None,
            },
            limits: Default::default(),
            capabilities: Default::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        }
    }

    fn variables(run: &Run) -> BTreeMap<String, String> {
        environment(run, ExecutionId::from_bytes([0; 16]), 1).into_iter().collect()
    }

    #[test]
    fn the_configuration_is_the_environment_and_our_names_cannot_be_forged() {
        let run = run(&[("REGION", "eu"), ("LONGSHORE_TENANT", "other"), ("LONGSHORE_INSTALL", "forged")]);
        let variables = variables(&run);
        assert_eq!(variables["REGION"], "eu");
        assert_eq!(variables["LONGSHORE_TENANT"], "t");
        assert_eq!(variables.get("LONGSHORE_INSTALL"), None);
        assert_eq!(left_out(&run.context.config), 2);
    }

    #[test]
    fn names_that_no_environment_can_hold_are_left_out_and_counted() {
        let run = run(&[("", "x"), ("A=B", "x"), ("nul\0", "x"), ("lower-case.too", "x")]);
        assert_eq!(left_out(&run.context.config), 3);
        let names: Vec<_> = variables(&run).into_keys().filter(|n| !n.starts_with("LONGSHORE_")).collect();
        assert_eq!(names, ["lower-case.too"]);
    }

    #[test]
    fn the_environment_says_what_made_the_call() {
        let mut run = run(&[]);
        assert_eq!(variables(&run)["LONGSHORE_TRIGGER"], "request");
        run.context.trigger = Some(Trigger { kind: TriggerKind::Schedule, schedule_id: None });
        assert_eq!(variables(&run)["LONGSHORE_TRIGGER"], "schedule");
    }
}
