//! A stored schedule as a call.

use std::time::Duration;

use bytes::Bytes;
use longshore_proto::call::{Trigger, TriggerKind};
use longshore_proto::install::Install;
use longshore_proto::{ExecutionId, PoolName, Run, RunHttp};
use longshore_schedules::Record;

use crate::gateway::endpoints::{self, Match};
use crate::gateway::runs::run_of;

/// What is sent.
pub(super) struct Due {
    pub run: Run,
    pub body: Option<Bytes>,
    pub pool: PoolName,
    pub weight: u32,
    pub idempotent: bool,
}

/// For an install that the registry does not know: with the rights of the run that wrote the schedule.
pub(super) fn as_stored(record: &Record, request_id: &str) -> Due {
    let (http, body) = request(record);
    let mut run = record.run.clone();
    run.context.request_id = Some(request_id.to_owned());
    run.context.trigger = Some(trigger(record));
    run.user = None;
    run.http = http;
    Due { run, body, pool: record.pool.clone(), weight: 1, idempotent: false }
}

/// With the version, rights and limits that the install has now; of the schedule there is the time that a run may take.
///
/// # Errors
/// Why it does not run.
pub(super) fn of_install(
    record: &Record,
    install: &Install,
    execution: ExecutionId,
    request_id: &str,
) -> Result<Due, String> {
    if !install.enabled {
        return Err("skipped: the install is disabled".to_owned());
    }
    let idempotent = match &install.version.endpoints {
        None => false,
        Some(declared) => match endpoints::find(declared, &record.method, &endpoints::segments(&record.path))
        {
            Some(Match { idempotent, .. }) => idempotent,
            None => {
                let (method, path, version) = (&record.method, &record.path, &install.version.version);
                return Err(format!(
                    "skipped: version {version}, which is installed now, declares no endpoint {method} {path}"
                ));
            }
        },
    };
    let (http, body) = request(record);
    let timeout = Duration::from_millis(record.run.limits.timeout_ms);
    let mut run = run_of(install, execution, http, request_id.to_owned(), timeout);
    run.context.trigger = Some(trigger(record));
    Ok(Due { run, body, pool: install.pool.clone(), weight: install.weight, idempotent })
}

fn trigger(record: &Record) -> Trigger {
    Trigger { kind: TriggerKind::Schedule, schedule_id: Some(record.id.clone()) }
}

/// The request, and its body: the endpoint's method and path, no query, the two routing headers, the payload where the method has a
/// body (interop 3.2).
fn request(record: &Record) -> (RunHttp, Option<Bytes>) {
    let body =
        record.payload.as_ref().filter(|_| record.method != "GET").map(|json| Bytes::from(json.clone()));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let context = &record.run.context;
    let mut headers = vec![
        header("x-alga-tenant", context.tenant.as_str()),
        header("x-alga-extension", context.extension.as_str()),
    ];
    if body.is_some() {
        headers.push(header("content-type", "application/json"));
    }
    let http = RunHttp {
        method: record.method.clone(),
        url: record.path.clone(),
        headers,
        scheme: None,
        authority: None,
    };
    (http, body)
}
