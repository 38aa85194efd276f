//! A stored schedule as a call.

use bytes::Bytes;
use longshore_proto::call::{Trigger, TriggerKind};
use longshore_proto::{Run, RunHttp};
use longshore_schedules::Record;
use uuid::Builder;

/// What runs, and the body: the endpoint's method and path, no query, the two routing headers, the payload where the method has a
/// body (interop 3.2).
pub(super) fn of(record: &Record) -> (Run, Option<Bytes>) {
    let body =
        record.payload.as_ref().filter(|_| record.method != "GET").map(|json| Bytes::from(json.clone()));
    let mut run = record.run.clone();
    run.context.request_id = Some(Builder::from_random_bytes(rand::random()).into_uuid().to_string());
    run.context.trigger = Some(Trigger { kind: TriggerKind::Schedule, schedule_id: Some(record.id.clone()) });
    run.user = None;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![
        header("x-alga-tenant", run.context.tenant.as_str()),
        header("x-alga-extension", run.context.extension.as_str()),
    ];
    if body.is_some() {
        headers.push(header("content-type", "application/json"));
    }
    run.http = RunHttp {
        method: record.method.clone(),
        url: record.path.clone(),
        headers,
        scheme: None,
        authority: None,
    };
    (run, body)
}
